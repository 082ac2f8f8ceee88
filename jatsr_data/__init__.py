"""Reading datasets that ``jatsr build`` has written."""

from jatsr_data.samples import Sample, open_samples

__all__ = ["Sample", "open_samples"]
