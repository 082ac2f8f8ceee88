"""Measures of waveforms and levels."""

from __future__ import annotations

import torch
from torch import Tensor

from jatsr_model.audio.loudness import Loudness, LoudnessMeter
from jatsr_model.metrics.log_spectral import STANDARD

SI_SDR_LIMIT = 100.0  # dB; float32 rounding is about 140


def si_sdr(reference: Tensor, estimate: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of zero-mean signals, in dB.

    Args:
        reference: ``[..., n]``.
        estimate: of the same shape.

    Returns:
        ``[...]`` between -100 and 100; NaN where the reference is constant.
    """
    wanted, found = _centred(reference), _centred(estimate)
    energy = wanted.square().sum(-1)
    target = ((found * wanted).sum(-1) / energy)[..., None] * wanted
    signal, error = target.square().sum(-1), (found - target).square().sum(-1)
    share = 10 ** (-SI_SDR_LIMIT / 10)
    ratio = (signal + share * error) / (error + share * signal)
    # an estimate without anything in it has neither signal nor error
    empty = (signal + error == 0) & (energy > 0)
    return (10 * ratio.log10()).masked_fill(empty, -SI_SDR_LIMIT)


def spectral_convergence(reference: Tensor, estimate: Tensor) -> Tensor:
    """Length of the difference of magnitude spectra over that of the reference's.

    Args:
        reference: ``[..., n]``.
        estimate: of the same shape.

    Returns:
        ``[...]``; NaN where the reference is digital silence.

    Raises:
        ShortClipError: fewer than 2048 samples.
    """
    error = torch.zeros(reference.shape[:-1], dtype=torch.float64, device=reference.device)
    total = torch.zeros_like(error)
    for wanted, found in STANDARD.pairs(reference, estimate):
        error += (wanted.sqrt() - found.sqrt()).square().sum((-2, -1), dtype=torch.float64)
        total += wanted.sum((-2, -1), dtype=torch.float64)
    ratio = (error / total).sqrt()
    return ratio.masked_fill(total == 0, torch.nan)


def levels(wave: Tensor, rate: int) -> Loudness:
    """Level and integrated loudness (ITU-R BS.1770-4) of one channel.

    Args:
        wave: ``[n]``.
        rate: Hz.
    """
    meter = LoudnessMeter(rate, 1)
    meter.push(wave.to(torch.float32).cpu().numpy()[None])
    return meter.result()


def _centred(wave: Tensor) -> Tensor:
    precise = wave.double()
    return precise - precise.mean(-1, keepdim=True)
