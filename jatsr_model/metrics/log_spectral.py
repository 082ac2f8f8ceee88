"""Log-spectral distance in its several forms, which give different numbers under one name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from jatsr_model.metrics.stft import Stft

STANDARD = Stft(n_fft=2048, hop=512)
POWER_FLOOR = 1e-8  # of the default form; about 16-bit rounding, which is 6e-8 in a bin

_JATSR = Stft(n_fft=2048, hop=512, centred=True)
_JATSR_FLOOR = 1e-16
_SSR_EPSILON = 1e-12


class BandLsd(NamedTuple):
    """LSD of two bands, each ``[...]``."""

    low: Tensor
    high: Tensor


def lsd(reference: Tensor, estimate: Tensor) -> Tensor:
    """Log-spectral distance in the default form.

    Powers of windows of 2048 samples at every 512th, floored at 1e-8; differences of their log10;
    root mean square over bins, mean over frames. A gain of g gives ``2 |log10 g|``. It is meant for
    samples between -1 and 1 at 44.1 kHz.

    Args:
        reference: ``[..., n]``, on any device.
        estimate: of the same shape.

    Returns:
        ``[...]``.

    Raises:
        ShortClipError: fewer than 2048 samples.
    """
    frames = [
        gap.mean(-2).sqrt() for gap in _squared_gaps(reference, estimate, STANDARD, POWER_FLOOR)
    ]
    return torch.cat(frames, -1).mean(-1)


def band_lsd(reference: Tensor, estimate: Tensor, split: int) -> BandLsd:
    """LSD-LF and LSD-HF: the default form over the bins below and above a cutoff.

    Args:
        reference: ``[..., n]``.
        estimate: of the same shape.
        split: the first bin of the upper band, between 1 and 1024; see ``split_bin``.

    Raises:
        ShortClipError: fewer than 2048 samples.
        ValueError: one of the bands is empty.
    """
    if not 0 < split < STANDARD.bins:
        raise ValueError(f"split: expected a bin from 1 to {STANDARD.bins - 1}, found {split}")
    frames = [
        torch.stack([gap[..., :split, :].mean(-2), gap[..., split:, :].mean(-2)]).sqrt()
        for gap in _squared_gaps(reference, estimate, STANDARD, POWER_FLOOR)
    ]
    low, high = torch.cat(frames, -1).mean(-1)
    return BandLsd(low, high)


def lsd_ssr_eval(reference: Tensor, estimate: Tensor, rate: int) -> Tensor:
    """The form of ssr_eval and AudioSR: ``log10(R^2 / (E + 1e-12)^2 + 1e-12)``.

    Windows of 46 ms every 10 ms, centred. Not symmetric. With next to no floor, a band that is
    empty in the estimate is decided by rounding, and a frame of digital silence in both counts 12.

    Args:
        reference: ``[..., n]``.
        estimate: of the same shape.
        rate: Hz.

    Returns:
        ``[...]``.
    """
    stft = Stft(int(2048 / (44100 / rate)), rate // 100, centred=True)
    frames = [
        (wanted / (found.sqrt() + _SSR_EPSILON).square() + _SSR_EPSILON)
        .log10().square().mean(-2).sqrt()
        for wanted, found in stft.pairs(reference, estimate)
    ]  # fmt: skip
    return torch.cat(frames, -1).mean(-1)


def lsd_jatsr_db(reference: Tensor, estimate: Tensor) -> Tensor:
    """The form of the JaTSR documents, "dB": ten times the usual scale.

    20 times the difference of log10 of magnitudes floored at 1e-8, windows of 2048 samples at every
    512th, centred.

    Args:
        reference: ``[..., n]``.
        estimate: of the same shape.

    Returns:
        ``[...]``.
    """
    frames = [
        10 * gap.mean(-2).sqrt() for gap in _squared_gaps(reference, estimate, _JATSR, _JATSR_FLOOR)
    ]
    return torch.cat(frames, -1).mean(-1)


def _squared_gaps(
    reference: Tensor, estimate: Tensor, stft: Stft, floor: float
) -> Iterator[Tensor]:
    """Blocks of squared differences of log10 of powers, ``[..., bins, frames]``."""
    for wanted, found in stft.pairs(reference, estimate):
        yield (wanted.clamp(min=floor).log10() - found.clamp(min=floor).log10()).square()
