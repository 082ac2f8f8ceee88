"""The single losses; each maps a batch to one value per sample, zero where the guess is right.

All but Charbonnier are means of squares (the original takes absolute values): then the gradient of
a term stays in proportion to that of MSE however small the error gets, and a weight means the same
at the start and at the end of training. Spectra are orthonormal, so that they do not grow with the
length of the crop, and ``frequency`` and ``multiscale`` are scaled to have, at weight 1 and for
white errors of standardised latents, gradients about as long as those of MSE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from jatsr_model.envelopes import HEARD, MEAN_LOG, MOST, energies, heard
from jatsr_model.lengths import ended
from shards.errors import ConfigError

CHARBONNIER_EPSILON = 1e-3
# Spectral magnitudes of standardised latents are about 1. With this floor under them, the slope of
# log-magnitude in magnitude is at most 1 / (2 FLOOR) = 1.
FLOOR = 0.5
LOW_BAND = 0.3
PHASE_WEIGHT = 0.1
SCALES = (1, 2, 4)
# Of ``levels``: rows and frames, and the weight of each.
NEIGHBOURHOODS = (((1, 1), 0.1), ((1, 6), 0.3), ((4, 3), 1.0), ((16, 2), 0.5))
LEVEL_SCALE = 4.0
GIVEN_WEIGHT = 0.1  # of levels below the cutoff, where it is told
LEAST_LEVEL = 0.01  # of a standardised latent: what is fainter is silence
# Measured on white noise, for errors from 0.02 to 0.3: see the test of gradients.
FREQUENCY_SCALE = 2.0
MULTISCALE_SCALE = 1.5


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What losses look at; all float32 ``[B, C, T]`` in the units of normalised data.

    Args:
        output: of the network: data or velocity.
        target: what the output should be.
        data_hat: the data that follow from the output.
        data: the truth.
        level: log deviation of the data, of a network for envelopes.
        power: of a latent that is proportional to energy, for ``levels``.
        low: low-res latents in the units of the data (not of low-res latents), for consistency.
        cutoff: ``[B]``, where the low-res signal ends, as a share of the Nyquist frequency.
        lengths: int64 ``[B]``, where samples end before T; there everything is zero.
    """

    output: Tensor
    target: Tensor
    data_hat: Tensor
    data: Tensor
    level: Tensor | None = None
    power: int = 2
    low: Tensor | None = None
    cutoff: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def stretch(self) -> Tensor | float:
        """``[B]``: how much larger means over the frames of a sample are than over all T."""
        return 1.0 if self.lengths is None else self.data.shape[-1] / self.lengths

    def in_float32(self, lengths: Tensor | None = None) -> Guess:
        """The same in float32, with zeros behind the end of samples that have these lengths."""
        tensors = {
            name: value.to(torch.float32)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name != "lengths"
        }
        for name in tensors.keys() - {"cutoff"}:  # behind the end: nothing, and nothing expected
            tensors[name] = ended(tensors[name], lengths)
        return replace(self, **cast(Any, tensors), lengths=lengths)


def mse(guess: Guess) -> Tensor:
    """Mean square of the network's own error."""
    return _mean((guess.output - guess.target).square()) * guess.stretch


def charbonnier(guess: Guess) -> Tensor:
    """Mean of ``sqrt(error^2 + eps^2) - eps``: nearly the absolute error, smooth at zero."""
    error = guess.output - guess.target
    smooth = (error.square() + CHARBONNIER_EPSILON**2).sqrt() - CHARBONNIER_EPSILON
    return _mean(smooth) * guess.stretch


def frequency(guess: Guess) -> Tensor:
    """Log-magnitudes of the spectrum over latent time, and in its lowest band also the phase.

    This is modulation of latents (up to 43 Hz for DAC), not audio frequency.
    """
    frames = guess.data.shape[-1]
    found = torch.fft.rfft(guess.data_hat, norm="ortho")
    wanted = torch.fft.rfft(guess.data, norm="ortho")
    logs = 0.5 * (_log_power(found) - _log_power(wanted))
    low = max(int(LOW_BAND * found.shape[-1]), 1)
    error = found[..., :low] - wanted[..., :low]
    # every bin but the first, and the last of an even length, stands for two
    share = torch.full((found.shape[-1],), 2 / frames, device=found.device)
    share[0] = 1 / frames
    if frames % 2 == 0:
        share[-1] = 1 / frames
    magnitude = (share * logs.square()).sum(-1).mean(-1)
    phase = (share[:low] * _power(error)).sum(-1).mean(-1)
    return FREQUENCY_SCALE * (magnitude + PHASE_WEIGHT * phase) * guess.stretch


def multiscale(guess: Guess) -> Tensor:
    """Mean squares of the error averaged over 1, 2 and 4 frames."""
    error = guess.data_hat - guess.data
    pooled = [functional.avg_pool1d(error, scale, ceil_mode=True) for scale in SCALES]
    squares = torch.stack([_mean(e.square()) for e in pooled]).mean(0)
    return MULTISCALE_SCALE * squares * guess.stretch


def levels(guess: Guess) -> Tensor:
    """Mean squares of the errors of levels, in units of log s, at several resolutions.

    Errors are differences of logarithms of energies, of means over as many frames as one spectrum
    of LSD hears, less what those of normal numbers have on average; so the level that is learned is
    that of what lies between partials and attacks, too, as in LSD. They are averaged over
    neighbourhoods before they are squared: large ones learn fast, small ones tell partials and
    attacks.

    With a cutoff, channels are bands of audio, and those below it count little.

    Raises:
        ConfigError: the network tells no levels.
    """
    if guess.level is None:
        raise ConfigError(
            "--loss levels: only for networks that tell envelopes", hint="such as mdct-envelope"
        )
    told = torch.exp(guess.power * guess.level.clamp(-MOST, MOST))
    wanted, found = (_levels(x, guess.power) for x in (energies(guess.data, guess.power), told))
    spectra = None if guess.lengths is None else (guess.lengths - HEARD + 1).clamp(min=1)
    errors = ended(wanted - found - MEAN_LOG / guess.power, spectra)
    total = errors.new_zeros(len(errors))
    for (rows, frames), weight in NEIGHBOURHOODS:
        size = min(rows, errors.shape[1]), min(frames, errors.shape[2])
        averaged = functional.avg_pool2d(errors[:, None], size)[:, 0]
        total = total + weight * _mean(_asked(guess, averaged.square()))
    stretch = 1.0 if spectra is None else errors.shape[2] / spectra
    return LEVEL_SCALE * total * stretch


def _levels(found: Tensor, power: int) -> Tensor:
    """Of spectra, from energies of frames: ``[B, C, T]`` -> ``[B, C, T - HEARD + 1]``."""
    frames = functional.pad(found, (0, max(HEARD - found.shape[2], 0)))
    return torch.log(heard(frames) + LEAST_LEVEL**power) / power


def _asked(guess: Guess, errors: Tensor) -> Tensor:
    """``[B, R, T]`` of rows from 0 to the Nyquist frequency, less of them where sound is given."""
    if guess.cutoff is None:
        return errors
    rows = errors.shape[1]
    given = torch.arange(rows, device=errors.device) + 1 <= guess.cutoff[:, None] * rows
    return torch.where(given[:, :, None], GIVEN_WEIGHT * errors, errors)


def consistency(guess: Guess) -> Tensor:
    """Mean square difference from the low-res latents, in the channels below their cutoff.

    For latents whose channels are bands of audio, as those of the embedded codec, where it is
    exact. For others ``AudioConsistency`` compares audio.

    Raises:
        ConfigError: the batch has no low-res latents or no cutoff.
    """
    low, cutoff = low_and_cutoff(guess)
    trusted = trusted_bands(cutoff, low.shape[1])
    return _mean(trusted[..., None] * (guess.data_hat - low).square()) * guess.stretch


def low_and_cutoff(guess: Guess) -> tuple[Tensor, Tensor]:
    """What consistency is measured against.

    Raises:
        ConfigError: it is not there.
    """
    if guess.low is None or guess.cutoff is None:
        raise ConfigError(
            "the loss 'consistency' needs low-res latents and the cutoff of every sample",
            hint="leave it out: --loss consistency=0",
        )
    return guess.low, guess.cutoff


LOSSES: Mapping[str, Callable[[Guess], Tensor]] = MappingProxyType(
    {
        "mse": mse,
        "charbonnier": charbonnier,
        "frequency": frequency,
        "multiscale": multiscale,
        "levels": levels,
    }
)
"""Those that suit any latents; which consistency does is for ``losses_for`` to choose."""


def trusted_bands(cutoff: Tensor, bands: int, edge: float = 0.1) -> Tensor:
    """Weights of bands of equal width, 1 below the cutoff.

    Args:
        cutoff: ``[B]``, shares of the Nyquist frequency.
        bands: from 0 to the Nyquist frequency.
        edge: the last share of the band below the cutoff, where weights fall to 0.

    Returns:
        float32 ``[B, bands]``.
    """
    centre = (torch.arange(bands, device=cutoff.device) + 0.5) / bands
    below = (cutoff[:, None] - centre) / (edge * cutoff[:, None])
    return below.clamp(0, 1).float()


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(1)


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _log_power(spectrum: Tensor) -> Tensor:
    return (_power(spectrum) + FLOOR**2).log()
