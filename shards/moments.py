"""Per-channel moments that merge exactly.

``(n, mean, M2, min, max)`` in float64; M2 is the sum of squared deviations, so that zero-mean data
keep their variance. Updates are two-pass per block, merges follow Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of ``n`` observations of each of C channels; arrays are float64 ``[C]``."""

    n: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]

    @staticmethod
    def empty(channels: int) -> Moments:
        """Moments of nothing: the neutral element of ``merge``."""
        zero, infinite = np.zeros(channels), np.full(channels, np.inf)
        return Moments(0, zero, zero.copy(), infinite, -infinite)

    @staticmethod
    def of(values: NDArray[Any]) -> Moments:
        """Moments over the last axis and all leading ones of ``[..., C, T]``."""
        channels = values.shape[-2]
        flat = np.moveaxis(values, -2, 0).reshape(channels, -1).astype(np.float64)
        if flat.shape[1] == 0:
            return Moments.empty(channels)
        mean = flat.mean(axis=1)
        low, high = flat.min(axis=1), flat.max(axis=1)
        flat -= mean[:, None]
        # The second term removes what rounding of the mean leaves (Chan's corrected two-pass).
        residue = flat.sum(axis=1)
        m2 = np.einsum("ct,ct->c", flat, flat) - residue * residue / flat.shape[1]
        return Moments(flat.shape[1], mean, np.maximum(m2, 0.0), low, high)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of observations together."""
        if other.n == 0:
            return self
        if self.n == 0:
            return other
        n = self.n + other.n
        delta = other.mean - self.mean
        return Moments(
            n,
            self.mean + delta * (other.n / n),
            self.m2 + other.m2 + delta * delta * (self.n * (other.n / n)),
            np.minimum(self.min, other.min),
            np.maximum(self.max, other.max),
        )

    @property
    def variance(self) -> NDArray[np.float64]:
        """Population variance ``[C]``."""
        return self.m2 / self.n

    def same_as(self, other: Moments, *, relative: float = 1e-9) -> bool:
        """Whether both describe the same data, up to rounding."""
        if self.n != other.n:
            return False
        scale = np.sqrt(np.maximum(self.m2, other.m2) / max(self.n, 1)) + np.abs(self.mean) + 1e-12
        return bool(
            np.all(np.abs(self.mean - other.mean) <= relative * scale)
            and np.allclose(self.m2, other.m2, rtol=1e3 * relative, atol=relative)
            and np.all(np.abs(self.min - other.min) <= _rounding(relative, self.min))
            and np.all(np.abs(self.max - other.max) <= _rounding(relative, self.max))
        )


def _rounding(relative: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What single values may differ by: latents are float32 sums, rounded by the processor."""
    scale: NDArray[np.float64] = np.maximum(np.abs(values), 1e-3)
    return scale * (max(relative, 1e-6) if relative else 0.0)


def merge_all(parts: Iterable[Moments], channels: int) -> Moments:
    """Merge in the given order, which is what makes the result reproducible."""
    total = Moments.empty(channels)
    for part in parts:
        total = total.merge(part)
    return total
