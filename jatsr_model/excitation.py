"""What an envelope is filled with: the input's own band, whitened and moved up, and some noise.

Noise alone turns tones into hiss and softens attacks. What was moved up is as narrow, as steady and
as sudden as the music below: spectral band replication as in High-Efficiency AAC, here inside the
frame of the transform. It is for latents whose channels are bands of audio in equal steps.

By how far it is moved decides whether partials go on: by a multiple of the fundamental they do. So
the distance is taken at which the spectrum resembles itself most. A channel is 8 bins of the
spectrum that is looked at, so that a distance in channels is one in bins; the spectrum tells
fundamentals apart that are far closer than channels are.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MOVED = 0.95  # of the excitation's amplitude; noise has the rest of its power
_SOLID = 0.92  # of the own band: above it, a filter may fall
_NEAREST, _FARTHEST = 0.35, 0.75  # distances, as shares of the own band
_LEAST = 8  # channels; what repeats in smaller steps sounds like a comb
_NEAR = (31, 17)  # channels and frames over which the own band is made white
_BINS = 8  # of a channel
_SMOOTH = 65  # bins over which the spectrum is made white
_FAINT = 1e-7


def distance(wave: NDArray[np.float32], cutoff: float, channels: int) -> int:
    """By how many channels to move the own band up.

    Args:
        wave: ``[n]``, a mono signal.
        cutoff: where its own band ends, as a share of the Nyquist frequency.
        channels: from 0 to the Nyquist frequency.

    Returns:
        0 where the own band is too narrow to be moved.
    """
    import scipy.fft  # late: importing it takes longer than most commands

    stop = int(_SOLID * cutoff * channels)
    first, last = max(math.ceil(_NEAREST * stop), _LEAST), int(_FARTHEST * stop)
    if first > last:
        return 0
    size = 2 * _BINS * channels
    padded = np.pad(wave, (0, max(size - len(wave), 0)))
    frames = sliding_window_view(padded, size)[:: size // 2] * np.hanning(size).astype(np.float32)
    spectra = np.abs(scipy.fft.rfft(frames, axis=-1))[:, : stop * _BINS]
    white = spectra / (_running_mean(spectra) + _FAINT) - 1
    likeness = [_likeness(white, step * _BINS) for step in range(first, last + 1)]
    return first + int(np.argmax(likeness))


def moved_up(coefficients: Tensor, cutoff: float, step: int) -> Tensor:
    """The own band, white, and its upper ``step`` channels again and again above it.

    Neighbouring frames of a tone differ in sign where it is moved by an odd number of channels, as
    they do for a tone that is there from the beginning.

    Args:
        coefficients: float32 ``[C, T]`` of a lapped transform, proportional to amplitude.
        cutoff: where the own band ends, as a share of the Nyquist frequency.
        step: see ``distance``; at least 1.

    Returns:
        float32 ``[C, T]`` of about unit power above the cutoff.
    """
    channels, length = coefficients.shape
    stop = int(_SOLID * cutoff * channels)
    rows, frames = _NEAR
    own = coefficients[None, None, :stop]
    around = functional.pad(own.square(), (frames // 2,) * 2 + (rows // 2,) * 2, mode="replicate")
    level = functional.avg_pool2d(around, _NEAR, 1).sqrt()
    white = (own / (level + _FAINT))[0, 0]
    source = white[stop - step :]
    signs = 1 - 2.0 * (torch.arange(length, device=white.device) * step % 2)
    copies = -(-(channels - stop) // step)
    above = [source * signs**number for number in range(1, copies + 1)]
    return torch.cat([white, *above])[:channels]


def excitation(coefficients: Tensor, cutoff: float, step: int, noise: Tensor) -> Tensor:
    """What to fill an envelope with: ``noise``, standard normal ``[C, T]``, alone if step is 0.

    Other arguments as for ``moved_up``.
    """
    if step == 0:
        return noise
    moved = moved_up(coefficients, cutoff, step)
    return MOVED * moved + math.sqrt(1 - MOVED**2) * noise


def _running_mean(spectra: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(spectra, ((0, 0), (_SMOOTH // 2 + 1, _SMOOTH // 2)), mode="edge")
    sums = np.cumsum(padded, axis=1, dtype=np.float64)
    means: NDArray[np.float32] = ((sums[:, _SMOOTH:] - sums[:, :-_SMOOTH]) / _SMOOTH).astype("f4")
    return means


def _likeness(white: NDArray[np.float32], lag: int) -> float:
    low, high = white[:, :-lag], white[:, lag:]
    norm = math.sqrt(float(np.square(low).sum()) * float(np.square(high).sum()))
    return float((low * high).sum()) / (norm + _FAINT)
