"""Distances of mel spectra in dB, with an absolute reference.

The usual form takes each file's own maximum for 0 dB and so cannot tell a file from the same file
ten times quieter. Here 0 dB is power 1, and nothing is cut off but what lies below -100 dB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jatsr_model.metrics.stft import Stft

POWER_FLOOR = 1e-10

# The mel scale of Slaney's Auditory Toolbox: linear below 1 kHz, logarithmic above.
_HZ_PER_MEL, _KNEE_HZ = 200 / 3, 1000.0
_KNEE_MEL, _LOG_STEP = _KNEE_HZ / _HZ_PER_MEL, np.log(6.4) / 27


@dataclass(frozen=True)
class MelScale:
    """A resolution of mel spectra."""

    stft: Stft
    bands: int


SCALES = (
    MelScale(Stft(512, 128), 40),
    MelScale(Stft(1024, 256), 64),
    MelScale(Stft(2048, 512), 80),
)
STANDARD = SCALES[-1]


class MelDistance(NamedTuple):
    """Differences of mel spectra, each ``[...]`` in dB.

    Attributes:
        l1: mean absolute difference.
        l2: root of the mean square difference.
    """

    l1: Tensor
    l2: Tensor


def mel_distance(
    reference: Tensor, estimate: Tensor, rate: int, scale: MelScale = STANDARD
) -> MelDistance:
    """Compare mel spectra in dB.

    Args:
        reference: ``[..., n]``.
        estimate: of the same shape.
        rate: Hz.
        scale: window, hop and number of bands.

    Raises:
        ShortClipError: less than one window.
    """
    filters = torch.from_numpy(mel_filters(rate, scale.stft.n_fft, scale.bands))
    gaps = []
    for wanted, found in scale.stft.pairs(reference, estimate):
        weights = filters.to(wanted)
        gaps.append(_decibels(weights @ wanted) - _decibels(weights @ found))
    gap = torch.cat(gaps, -1)
    return MelDistance(gap.abs().mean((-2, -1)), gap.square().mean((-2, -1)).sqrt())


def multi_scale_mel(reference: Tensor, estimate: Tensor, rate: int) -> Tensor:
    """Mean of the L1 distances of three resolutions, ``[...]`` in dB.

    Raises:
        ShortClipError: less than the longest window.
    """
    distances = [mel_distance(reference, estimate, rate, scale).l1 for scale in SCALES]
    return torch.stack(distances).mean(0)


@lru_cache(maxsize=16)
def mel_filters(rate: int, n_fft: int, bands: int) -> NDArray[np.float64]:
    """Triangles of unit area in Hz, evenly spread over the mel scale from 0 to half the rate.

    Returns:
        ``[bands, n_fft // 2 + 1]``.
    """
    corners = _hertz(np.linspace(0, _mel(rate / 2), bands + 2))[:, None]
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)
    rising = (bins - corners[:-2]) / np.diff(corners, axis=0)[:-1]
    falling = (corners[2:] - bins) / np.diff(corners, axis=0)[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    areas = 2 / (corners[2:] - corners[:-2])
    return np.asarray(areas * triangles)


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _HZ_PER_MEL
    return float(_KNEE_MEL + np.log(hertz / _KNEE_HZ) / _LOG_STEP)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    curved = _KNEE_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _KNEE_MEL) - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, curved)


def _decibels(power: Tensor) -> Tensor:
    return 10 * power.clamp(min=POWER_FLOOR).log10()
