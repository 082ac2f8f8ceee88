"""What surrounds the network when audio is upsampled: bandwidth, levels, splicing, files."""
