"""How a dataset is read, apart from what is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from shards.errors import ConfigError

BLOCK_BYTES = 1 << 19


@dataclass(frozen=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        shuffle: False gives the same crops in the same order in every epoch, as for validation.
        lanes: into how many equal streams the dataset is dealt; world size times workers has to
            divide it. Part of the order.
        window: how many blocks (runs of about half a MiB) are mixed in each lane. Part of the
            order.
        cache_dir: where blocks of remote datasets are kept; None for the user's cache folder or
            ``JATSR_CACHE``. Shared by all processes of a machine.
        cache_bytes: how much that may hold; what was not used for longest goes first.
        verify: compare the hash of everything that is read.
    """

    shuffle: bool = True
    lanes: int = 64
    window: int = 16
    cache_dir: str | os.PathLike[str] | None = None
    cache_bytes: int = 32 << 30
    verify: bool = True

    def __post_init__(self) -> None:
        for name in ("lanes", "window", "cache_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least 1")

    @property
    def cache_folder(self) -> Path | None:
        """``cache_dir`` as a path."""
        return None if self.cache_dir is None else Path(self.cache_dir).expanduser().absolute()
