"""Many files upsampled: which, where to, by whom, and what became of each."""
