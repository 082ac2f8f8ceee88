"""Reading datasets that ``jatsr build`` has written."""

from jatsr_data.batch import Batch
from jatsr_data.dataset import LatentDataset
from jatsr_data.filters import Filter
from jatsr_data.loader import LatentLoader
from jatsr_data.mixture import Mixture
from jatsr_data.normalise import Normaliser
from jatsr_data.options import ReadOptions
from jatsr_data.samples import Sample, open_samples

__all__ = [
    "Batch",
    "Filter",
    "LatentDataset",
    "LatentLoader",
    "Mixture",
    "Normaliser",
    "ReadOptions",
    "Sample",
    "open_samples",
]
