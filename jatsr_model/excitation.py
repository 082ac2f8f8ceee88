"""What an envelope is filled with: the input's own band, whitened and moved up, and some noise.

Noise alone turns tones into hiss and softens attacks. What was moved up is as narrow, as steady and
as sudden as the music below: spectral band replication as in High-Efficiency AAC. It is for latents
whose channels are bands of audio in equal steps. The band is moved as a signal, by any number of
Hertz (single-sideband modulation), so that partials go on: see ``likeness``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from jatsr_model.codecs import Codec, encode
from jatsr_model.envelopes import HEARD, MEAN_LOG, heard, signed_power
from jatsr_model.likeness import SIZE, Move, movable, moves

# Of the excitation's amplitude, where the own band ends and ``_OCTAVES`` above; noise has the rest
# of its power. The higher a band, the more music is like noise.
MOVED = (1.0, 0.85)
_OCTAVES = 2.0
_SOLID = 0.92  # of the own band: above it, a filter may fall
_NEAR = (31, 9)  # channels and frames over which the own band is made white
_STEADY = 24  # frames that are moved by the same distances, 0.28 s
_AROUND = 12  # frames before and after them in which distances are looked for, too
_RINGING = 4096  # samples behind a signal in which a filter may ring
_STRIDE = 256  # samples
_FAINT = 1e-7
_SILENT = 1e-3  # of a white frame, whose power is about 1 otherwise

Wave = NDArray[np.float32]
Spectrum = NDArray[np.complex64]


@torch.no_grad()
def excitation(codec: Codec, own: Tensor, power: int, cutoff: float, noise: Tensor) -> Tensor:
    """What to fill an envelope with.

    Args:
        codec: of the latents; its channels are bands from 0 to the Nyquist frequency.
        own: low-res latents ``[C, T]``, not normalised.
        power: of a latent that is proportional to energy.
        cutoff: where the own band ends, as a share of the Nyquist frequency.
        noise: standard normal ``[C, T]``; the result where the own band is too narrow.

    Returns:
        ``[C, T]``, on the device of the noise: above the own band, where that is not silent, as
        loud as noise of unit power in the mean of logarithms, by which levels are told. Partials
        then have more than unit power.
    """
    channels, frames = own.shape
    stop, rate = int(_SOLID * cutoff * channels), codec.sample_rate
    end = stop / channels * rate / 2
    if not movable(end):
        return noise
    white = whitened(signed_power(own, power / 2), stop)
    band: Wave = codec.decode(signed_power(white, 2 / power)[None])[0].cpu().numpy()
    parts = [_moved_up(codec, band, first, end) for first in range(0, frames, _STEADY)]
    moved = signed_power(torch.cat(parts, dim=1).to(noise), power / 2)
    sounds = moved[:stop].square().mean(0) > _SILENT
    moved = moved / (moved[stop:, sounds].square().mean().sqrt() if sounds.any() else 1.0)
    share = shares(channels, stop).to(noise)[:, None]
    mixed = share * moved + (1 - share.square()).sqrt() * noise
    if sounds.sum() < HEARD:
        return mixed
    logs = torch.log(heard(mixed[stop:, sounds].square()) + _FAINT).mean()
    return mixed * torch.exp((MEAN_LOG - logs) / 2)


def shares(channels: int, stop: int) -> Tensor:
    """How much of the amplitude in each channel was moved up, float32 ``[channels]``.

    Args:
        channels: in equal steps of frequency.
        stop: the first one above the own band.
    """
    octaves = torch.log2(torch.arange(channels).clamp(min=stop) / stop)
    first, last = MOVED
    return first + (last - first) * (octaves / _OCTAVES).clamp(max=1)


def _moved_up(codec: Codec, band: Wave, first: int, end: float) -> Tensor:
    """Latents ``[C, n]`` of a white band and what it is above its end, for the frames from one on.

    What was before and comes after helps to find the distances, and is where filters ring.
    """
    start = max(first - _AROUND, 0)
    part = band[start * codec.hop : (first + _STEADY + _AROUND) * codec.hop]
    whole = part + above(part, moves(part, end, codec.sample_rate), end, codec.sample_rate)
    latents = codec.latents(torch.from_numpy(encode(codec, whole[None])))[0]
    return latents[:, first - start : first - start + _STEADY]


def whitened(coefficients: Tensor, stop: int) -> Tensor:
    """The band below a channel, with unit power everywhere; above it, zeros.

    Args:
        coefficients: float32 ``[C, T]`` of a lapped transform, proportional to amplitude.
        stop: the channel, at least 1.
    """
    rows, frames = _NEAR
    own = coefficients[None, None, :stop]
    around = functional.pad(own.square(), (frames // 2,) * 2 + (rows // 2,) * 2, mode="replicate")
    level = functional.avg_pool2d(around, _NEAR, 1).sqrt()
    return functional.pad((own / (level + _FAINT))[0, 0], (0, 0, 0, len(coefficients) - stop))


def above(band: Wave, found: Sequence[Move], end: float, rate: int) -> Wave:
    """The upper end of a band, again and again above it, up to the Nyquist frequency.

    Args:
        band: ``[n]``, nothing above its end.
        found: which bins are moved by how far; of each, as much as lies that far below the end.
        end: Hz.
        rate: Hz.
    """
    import scipy.fft  # late: importing it takes longer than most commands

    size = scipy.fft.next_fast_len(len(band) + _RINGING)
    spectrum = scipy.fft.rfft(band, size)[: size // 2]
    hertz = np.arange(len(spectrum)) * rate / size
    nearest = (hertz * (SIZE / rate)).round().astype(int)
    total = np.zeros(len(band), np.float32)
    for move in found:
        mine = (hertz >= end - move.hertz) & (hertz < end)
        mine &= move.bins[np.minimum(nearest, len(move.bins) - 1)]
        copies = int((rate / 2 - end) / move.hertz)  # whole ones; then as much as there is room for
        # Phases that grow as a square: copies of a noise do not add up to pulses.
        phases = np.exp(1j * np.pi * np.square(np.arange(copies + 2)) / (copies + 1))
        turn, turns = _turning(move.hertz / rate, len(band)), np.zeros(len(band), np.complex64)
        for phase in phases[copies:0:-1]:
            turns = (turns + np.complex64(phase)) * turn
        total += (_analytic(spectrum * mine, size, len(band)) * turns).real
        last = mine & (hertz + (copies + 1) * move.hertz < rate / 2)
        turns = np.complex64(phases[-1]) * _turning((copies + 1) * move.hertz / rate, len(band))
        total += (_analytic(spectrum * last, size, len(band)) * turns).real
    return total


def _analytic(half: Spectrum, size: int, samples: int) -> Spectrum:
    """The signal of a spectrum of positive frequencies alone."""
    import scipy.fft

    signal: Spectrum = scipy.fft.ifft(2 * half, size)[:samples]
    return signal


def _turning(cycles: float, samples: int) -> Spectrum:
    """``exp(2 pi i cycles n)`` of so many n, as products of few exponentials: far faster."""
    coarse, fine = np.arange(0, samples, _STRIDE), np.arange(_STRIDE)
    steps, within = (np.exp(2j * np.pi * cycles * n) for n in (coarse, fine))
    return np.outer(steps, within).ravel()[:samples].astype(np.complex64)
