"""Where the low-res input ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jatsr_model.metrics.log_spectral import STANDARD
from jatsr_model.metrics.texture import ACTIVE

_KEPT = 0.5  # of the power of the reference: a bin with less has lost 3 dB


def split_bin(cutoff: float, rate: int) -> int | None:
    """The first bin of the default spectrum that lies at or above a cutoff.

    Args:
        cutoff: Hz.
        rate: Hz.

    Returns:
        between 1 and 1024; None where the cutoff leaves no bin below or above it.
    """
    split = math.ceil(cutoff * STANDARD.n_fft / rate - 1e-6)
    return split if 0 < split < STANDARD.bins else None


def find_cutoff(reference: Tensor, low: Tensor, rate: int) -> float | None:
    """The cutoff of a low-res version, from what of the reference is left in it.

    Bins of the mean spectrum have lost 3 dB or not; the cutoff is the step that explains most of
    them. Bins where the reference has nothing do not count. Of a good resampler this is about 95 %
    of half its lower rate; the rest is the slope of its filter.

    Args:
        reference: ``[n]``.
        low: of the same shape.
        rate: Hz, of both.

    Returns:
        Hz; None where the band is whole, or nothing of it is left.

    Raises:
        ShortClipError: fewer than 2048 samples.
    """
    wanted = torch.zeros(STANDARD.bins, dtype=torch.float64, device=reference.device)
    kept, frames = torch.zeros_like(wanted), 0
    for first, second in STANDARD.pairs(reference, low):
        wanted += first.sum(-1)
        kept += second.sum(-1)
        frames += first.shape[-1]
    counts = wanted / frames > ACTIVE * STANDARD.noise_power
    votes = torch.where(kept > _KEPT * wanted, 1, -1) * counts
    score = torch.cat([votes.new_zeros(1), votes.cumsum(0)])
    step = int(score.argmax())
    lost = int(score[step] - score[-1])  # bins above it that are gone, less those that are not
    return step * rate / STANDARD.n_fft if step > 0 and lost > 0 else None
