"""Whether what was generated is as noisy and as spiky as the original.

A band of noise with the right envelope has a good log-spectral distance and sounds wrong: tones
have become noise and attacks are smeared. Two distributions tell:

* spectral flatness, of every frame and every 32 bins (690 Hz at 44.1 kHz): about -2.5 dB for noise,
  much lower for partials with gaps between them;
* temporal crest factor, of every 64 short frames (93 ms) and every 16 short bins (2.8 kHz): peak
  over mean of the power, a few dB for noise, 0 for a steady tone, above 10 for a click.

They are compared as distributions, by the Wasserstein distance in dB. Only places where the
reference has something above the noise of 16 bits count, and the same places in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from jatsr_model.metrics.log_spectral import POWER_FLOOR, STANDARD
from jatsr_model.metrics.stft import Stft

ACTIVE = 1e-9  # variance of a sample of white noise of the same density; 16-bit dither has 2e-10

_FLATNESS_BINS = 32
_SHORT = Stft(n_fft=256, hop=64)
_CREST_BINS, _CREST_FRAMES = 16, 64
_LOBE = 2  # bins to either side of a tone that the window smears it over


class Texture(NamedTuple):
    """How the distribution of the estimate differs from that of the reference, in dB.

    Attributes:
        distance: Wasserstein distance; NaN where there is nothing to compare.
        shift: mean of the estimate less that of the reference.
    """

    distance: float
    shift: float


def flatness(reference: Tensor, estimate: Tensor, split: int) -> Texture:
    """Compare spectral flatness above a cutoff.

    Args:
        reference: ``[n]``.
        estimate: of the same shape.
        split: first bin above the cutoff, of the 1025 of the default spectrum.

    Raises:
        ShortClipError: fewer than 2048 samples.
    """
    bands = (STANDARD.bins - split) // _FLATNESS_BINS
    cut = slice(split, split + bands * _FLATNESS_BINS)

    def values(power: Tensor) -> tuple[Tensor, Tensor]:
        split_up = power[cut].reshape(bands, _FLATNESS_BINS, power.shape[-1])
        return split_up.mean(1), _flatness_db(split_up)

    return _compare(reference, estimate, STANDARD, 1, values)


def crest(reference: Tensor, estimate: Tensor, split: int) -> Texture:
    """Compare temporal crest factors above a cutoff.

    Args:
        reference: ``[n]``.
        estimate: of the same shape.
        split: first bin above the cutoff, of the 1025 of the default spectrum.

    Raises:
        ShortClipError: fewer than 256 samples.
    """
    start = math.ceil(split * _SHORT.n_fft / STANDARD.n_fft) + _LOBE
    bands = max(0, _SHORT.bins - start) // _CREST_BINS
    cut = slice(start, start + bands * _CREST_BINS)

    def values(power: Tensor) -> tuple[Tensor, Tensor]:
        groups = power.shape[-1] // _CREST_FRAMES
        whole = power[cut, : groups * _CREST_FRAMES]
        envelopes = whole.reshape(bands, _CREST_BINS, groups, _CREST_FRAMES).mean(1)
        return envelopes.mean(-1), _crest_db(envelopes)

    return _compare(reference, estimate, _SHORT, _CREST_FRAMES, values)


def _compare(
    reference: Tensor,
    estimate: Tensor,
    stft: Stft,
    multiple: int,
    values: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Texture:
    """Compare the measure of every place; ``values`` gives power and measure of a block."""
    kept: list[Tensor] = []
    for wanted, found in stft.pairs(reference, estimate, multiple):
        power, first = values(wanted)
        _, second = values(found)
        kept.append(torch.stack([first, second])[:, power > ACTIVE * stft.noise_power])
    first, second = torch.cat(kept, 1).double()
    if not len(first):
        return Texture(math.nan, math.nan)
    distance = (first.sort().values - second.sort().values).abs().mean()
    return Texture(float(distance), float((second - first).mean()))


def _flatness_db(bands: Tensor) -> Tensor:
    """Geometric over arithmetic mean of powers ``[bands, bins, frames]``, over the bins."""
    floored = bands.clamp(min=POWER_FLOOR)
    return 10 * (floored.log10().mean(1) - floored.mean(1).log10())


def _crest_db(envelopes: Tensor) -> Tensor:
    """Largest over mean of powers ``[bands, groups, frames]``, over the frames."""
    floored = envelopes.clamp(min=POWER_FLOOR)
    return 10 * (floored.amax(-1).log10() - floored.mean(-1).log10())
