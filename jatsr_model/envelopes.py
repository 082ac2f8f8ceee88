"""Envelopes: how loud every number of the data is, and sound that is made of nothing else.

A network that tells the level ``log s`` of every number is learned by least squares in the
logarithm (``losses.levels``), which finds envelopes in far fewer steps than a flow does. Sound
follows in one step: low-res latents are kept, and where they stay behind the envelope they are
filled up with noise::

    data = low + max(s^q - 4 E, 0)^(1/q) noise,   |noise|^q = normal^2

q is the power of a latent that is proportional to energy (4 for the square roots of the embedded
codec, else 2), E the mean of ``|low|^q`` nearby: what is within 6 dB of the envelope is known.
``s^q`` is spread over neighbouring frames a little: networks learn from spectra of several.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from jatsr_model.lengths import ended

MOST = 6.0  # log s is taken to lie between -MOST and MOST
NEARBY = (3, 3)  # rows and frames
KNOWN = 4.0  # 6 dB
HEARD = 4  # frames of one spectrum: about those of 2048 samples, as LSD has them
MEAN_LOG = -0.2703628454614782  # of means of so many normal squares: digamma(2) - log(2)
_LAST = 3  # rows below a cutoff that stand for what is above it
_FAINT = 3e-3  # a standardised latent below which its level says nothing


def energies(latents: Tensor, power: int) -> Tensor:
    """``|latents|^power`` in float32; power is even."""
    return latents.float().square() ** (power // 2)


def heard(energies: Tensor) -> Tensor:
    """Energies of spectra from those of frames: ``[..., T]`` -> ``[..., T - HEARD + 1]``."""
    count = energies.shape[-1] - HEARD + 1
    total = energies[..., :count]
    for k in range(1, HEARD):  # three times as fast as pooling
        total = total + energies[..., k : k + count]
    return total / HEARD


def signed_power(x: Tensor, exponent: float) -> Tensor:
    """``|x|^exponent`` with the sign of x: from latents to amplitudes and back."""
    return torch.copysign(x.abs() ** exponent, x)


def features(low: Tensor, power: int, band: int) -> Tensor:
    """Levels of low-res latents as a network takes them.

    Two of every band, over 3 frames: the logarithm of its energy, and the mean of the logarithms of
    its numbers. The second is lower where partials stand apart, and where a lossy codec left holes.

    Args:
        low: ``[B, C, T]``, standardised.
        power: q.
        band: neighbouring channels that share a level.

    Returns:
        float32 ``[B, 2 ceil(C / band), T]``, first all of the first kind; about -2.4 to 2.2.
    """
    found, rest = energies(low, power)[:, None], -low.shape[1] % band
    loud = functional.avg_pool2d(functional.pad(found, (1, 1, 0, rest)), (band, 3), (band, 1))
    single = torch.log(found + _FAINT**power)
    single = functional.pad(single, (1, 1, 0, rest), mode="replicate")
    typical = functional.avg_pool2d(single, (band, 3), (band, 1))
    both = torch.cat([torch.log(loud + _FAINT**power), typical], dim=2)
    return both[:, 0] * (2 / 3 / power) + 1.5


def held(levels: Tensor, cutoff: Tensor | None) -> Tensor:
    """Levels as they would go on above a cutoff, and where that is.

    What a degraded signal has above its cutoff (leakage, rounding) is no music, and a gap looks to
    a linear layer like another sound. So the last rows below it stand for all above.

    Args:
        levels: ``[B, 2 R, T]``, two of each of R rows from 0 to the Nyquist frequency; see
            ``features``.
        cutoff: ``[B]``, as a share of it; None if nothing is lost.

    Returns:
        ``[B, 3 R, T]``: the levels, then 1 below the cutoff and -1 above it.
    """
    kinds = torch.unflatten(levels, 1, (2, -1))
    size, _, rows, frames = kinds.shape
    place = torch.arange(rows, device=levels.device)
    stop = levels.new_full((size,), 1.0) if cutoff is None else cutoff
    stop = (stop * rows).floor().clamp(min=_LAST)[:, None]
    own = place < stop
    last = (own & (place >= stop - _LAST)).to(levels.dtype) / _LAST
    above = torch.einsum("br,bkrt->bkt", last, kinds)[:, :, None]
    known = own[:, :, None].expand(-1, -1, frames)
    kept = kinds.where(known[:, None], above)
    return torch.cat([kept.flatten(1, 2), 2 * known.to(levels.dtype) - 1], dim=1)


def filled(
    level: Tensor, low: Tensor, noise: Tensor, power: int, lengths: Tensor | None = None
) -> Tensor:
    """Data of an envelope: see above.

    Args:
        level: log s, ``[B, C, T]``.
        low: low-res latents in the units of the data, of the same shape.
        noise: standard normal, of the same shape.
        power: q.
        lengths: int64 ``[B]``, where samples end before T; what is told behind that is not heard.
    """
    told = ended(torch.exp(power * level.float().clamp(-MOST, MOST)), lengths)
    # which of the frames of a spectrum is loud is a guess
    around = functional.pad(told, (1, 1), mode="replicate")
    told = (around[..., :-2] + 2 * told + around[..., 2:]) / 4
    rows, frames = NEARBY
    known = functional.avg_pool2d(
        energies(low, power)[:, None], NEARBY, 1, (rows // 2, frames // 2)
    )[:, 0]
    return low + (told - KNOWN * known).clamp(min=0) ** (1 / power) * signed_power(noise, 2 / power)
