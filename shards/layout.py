"""Names and constants of dataset format version 1."""

from __future__ import annotations

from typing import Final

FORMAT_VERSION: Final = 1
MANIFEST: Final = "dataset.json"
LEDGER: Final = "ledger.parquet"
SAMPLES: Final = "samples.parquet"
STATISTICS: Final = "stats.zarr"
SILENCE: Final = "silence.npy"
PROJECTED: Final = ".projected"  # after a stream's name: statistics of its projections
STAGING: Final = ".jatsr"
SPLITS: Final = ("train", "val")
TRACK_ID_DIGITS: Final = 24  # hexadecimal digits of the sha256 of the source file: 96 bits


def sample_key(track: str, excerpt: int) -> str:
    """Key of a sample in tars and tables; no dots, because readers split names at the first dot."""
    return f"{track}_{excerpt:04d}"


def shard_name(split: str, number: int) -> str:
    """Path of a shard inside the dataset."""
    return f"{split}/{number:06d}.tar"


def stream_names(variants: int) -> tuple[str, ...]:
    """``hr`` and one ``lrK`` per low-res variant: member names and statistics groups."""
    return ("hr", *(f"lr{k}" for k in range(variants)))
