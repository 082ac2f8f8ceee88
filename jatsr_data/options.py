"""How a dataset is read, apart from what is read."""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import ConfigError

BLOCK_BYTES = 1 << 19  # part of the order: see ORDER_VERSION in dataset.py


def whole(name: str, value: Any, least: int) -> int:
    """A whole number, also if numpy made it.

    Raises:
        ConfigError: it is none, or too small; names the parameter.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ConfigError(f"{name}={value!r}: expected a whole number") from None
    if number < least:
        raise ConfigError(f"{name}={number}: expected at least {least}")
    return number


@dataclass(frozen=True)
class ReadOptions:
    """How a dataset is read.

    Attributes:
        shuffle: False gives the same crops in the same order in every epoch, as for validation.
        lanes: into how many equal streams the dataset is dealt; world size times workers has to
            divide it. Part of the order.
        window: how many blocks (runs of about 0.6 MB) are mixed in each lane. Part of the order.
            A process holds up to a gigabyte of the blocks of its lanes.
        cache_dir: where blocks of remote datasets are kept; None for the user's cache folder or
            ``JATSR_CACHE``. Shared by all processes of a machine.
        cache_bytes: how much that may hold; what was not used for longest goes first.
        verify: compare the hash of everything that is read.
    """

    shuffle: bool = True
    lanes: int = 96
    window: int = 8
    cache_dir: str | os.PathLike[str] | None = None
    cache_bytes: int = 32 << 30
    verify: bool = True

    def __post_init__(self) -> None:
        for name in ("lanes", "window", "cache_bytes"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1))

    @property
    def cache_folder(self) -> Path | None:
        """``cache_dir`` as a path."""
        return None if self.cache_dir is None else Path(self.cache_dir).expanduser().absolute()
