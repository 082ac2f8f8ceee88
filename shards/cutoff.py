"""Up to where a low-res signal is as loud as its high-res one: what a network may take as given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shards.envelope import BINS, ORIGIN_DB, STEP_DB

LOST_DB = 10.0  # a bin that is so much fainter than it was is lost
AUDIBLE_DB = -80.0  # mean magnitude of a bin; a spectrum in 16 bits ends near -67


def cutoffs(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where low-res signals end.

    The frequency that divides the bins best into those that are still there and those that are
    lost; silent ones do not count. Of equally good ones it is the highest: 1 where nothing is lost.

    Args:
        high: uint8 ``[n, BINS]``, spectra of high-res excerpts, see ``shards.envelope``.
        low: those of the low-res ones.

    Returns:
        float32 ``[n]``, shares of the Nyquist frequency, 0 to 1.
    """
    levels = high.astype(np.int16)
    audible = levels >= (AUDIBLE_DB - ORIGIN_DB) / STEP_DB
    lost = audible & (levels - low >= LOST_DB / STEP_DB)
    kept = audible & ~lost
    # wrong for a frequency: what is lost below it, and what is kept from it on
    start = np.zeros((len(levels), 1), np.int64)
    wrong = np.concatenate([start, np.cumsum(lost, 1) - np.cumsum(kept, 1)], axis=1)
    last = wrong.shape[1] - 1 - np.argmin(wrong[:, ::-1], axis=1)
    found: NDArray[np.float32] = np.minimum(last / (BINS - 1), 1).astype(np.float32)
    return found
