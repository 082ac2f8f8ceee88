"""Random numbers without a generator: a draw is a function of what it is drawn for.

So the order of an epoch depends on no state, no library version and no number of processes. The
mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def draws(seed: int, epoch: int, purpose: str, *what: NDArray[Any]) -> NDArray[np.uint64]:
    """One uniform 64-bit integer for each element.

    Args:
        seed: any integer.
        epoch: any integer.
        purpose: what the number decides; draws for other purposes are independent.
        what: integer arrays that broadcast to one shape; equal elements get equal draws.

    Returns:
        uint64 of the broadcast shape.
    """
    key = _mix(np.full(1, seed & _MASK, np.uint64))  # mixed: seed 1 in epoch 2 is not 2 in 1
    for part in (epoch & _MASK, int.from_bytes(purpose.encode().ljust(8)[:8], "little")):
        key = _mix(key ^ np.uint64(part))
    for values in what:
        key = _mix(key ^ values.astype(np.uint64))
    return key


def uniform(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Draws as float64 in [0, 1)."""
    fractions: NDArray[np.float64] = (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return fractions


def below(numbers: NDArray[np.uint64], limits: NDArray[Any]) -> NDArray[np.int64]:
    """Draws as integers in [0, limit), for limits below 2**32."""
    high = numbers >> np.uint64(32)
    return ((high * limits.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + _STEP
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
