"""The part of a stream that is still needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Rolling:
    """Places of a stream along its last axis; before its start and after its end it is zero.

    Args:
        empty: of the stream's shape, without any place.
    """

    def __init__(self, empty: NDArray[Any]) -> None:
        self._held = empty
        self._start = 0

    @property
    def stop(self) -> int:
        """How many places have come."""
        return self._start + int(self._held.shape[-1])

    def append(self, more: NDArray[Any]) -> None:
        """Take what follows."""
        self._held = np.concatenate([self._held, more], axis=-1)

    def get(self, first: int, last: int) -> NDArray[Any]:
        """The places ``[first, last)``.

        Raises:
            ValueError: some were dropped.
        """
        if max(first, 0) < self._start:
            raise ValueError(f"place {first} was dropped, {self._start} is the first one left")
        inside = self._held[..., max(first, 0) - self._start : max(last - self._start, 0)]
        before = max(-first, 0)
        missing = last - first - before - inside.shape[-1]
        if not before and not missing:
            return inside
        return np.pad(inside, [(0, 0)] * (inside.ndim - 1) + [(before, missing)])

    def drop(self, before: int) -> None:
        """Forget the places before one."""
        if before > self._start:
            self._held = self._held[..., before - self._start :].copy()
            self._start = before
