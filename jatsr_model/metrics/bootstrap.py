"""How far a mean over files can be trusted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
_VALUES_AT_ONCE = 4_000_000


class Mean(NamedTuple):
    """A mean over files.

    Attributes:
        mean: of those that have a value.
        low: where the interval of 95 % begins; None for fewer than two files.
        high: where it ends.
        files: how many have a value.
    """

    mean: float
    low: float | None
    high: float | None
    files: int


def bootstrap(values: NDArray[np.float64], seed: int, resamples: int) -> Mean | None:
    """Mean with a percentile interval over resampled files.

    The same seed draws the same files whatever the values are: metrics and candidates that all
    files have are resampled alike.

    Args:
        values: ``[files]``; NaN where there is none.
        seed: of the draws.
        resamples: how many.

    Returns:
        None where no file has a value.
    """
    found = values[~np.isnan(values)]
    if not len(found):
        return None
    mean = float(found.mean())
    if len(found) < 2:
        return Mean(mean, None, None, len(found))
    random = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    step = max(1, _VALUES_AT_ONCE // len(found))
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), len(found))
        means.append(found[random.integers(len(found), size=shape)].mean(1))
    edge = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [edge, 1 - edge])
    return Mean(mean, float(low), float(high), len(found))
