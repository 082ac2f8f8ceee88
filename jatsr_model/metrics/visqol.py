"""ViSQOL, where its package is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_model.metrics.optional import optional

RATE = 48000  # of its audio mode


class Visqol:
    """Predicted opinion of listeners, 1 to 4.7, by the audio mode of ViSQOL 3."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32]) -> float:
        """Compare two signals at 48 kHz.

        Args:
            reference: ``[n]``.
            estimate: ``[m]``.

        Returns:
            MOS-LQO; NaN for silence and for clips that are too short for it.
        """
        try:
            result = self._api.measure_from_arrays(
                reference.astype(np.float64), estimate.astype(np.float64), RATE
            )
        except ValueError:  # its word for too short
            return math.nan
        return float(result.moslqo)


def open_visqol() -> Visqol | str:
    """ViSQOL, or why there is none."""
    package = optional("visqol", "'jatsr[visqol]'")
    if isinstance(package, str):
        return package
    if not hasattr(package, "VisqolApi"):
        return "another package of this name is installed: pip install 'jatsr[visqol]'"
    api = package.VisqolApi()
    api.create(mode="audio")
    return Visqol(api)
