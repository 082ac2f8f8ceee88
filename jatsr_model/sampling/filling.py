"""From an envelope to data in one step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jatsr_data import Normaliser
from jatsr_model.dit import DiT
from jatsr_model.dit.conditions import Conditions
from jatsr_model.envelopes import filled
from jatsr_model.excitation import excitation
from jatsr_model.latents import LatentDecoder
from jatsr_model.lengths import ended
from jatsr_model.sampling.sampler import evaluating


def excited(
    network: DiT, decoder: LatentDecoder, low: Tensor, cutoffs: Sequence[float], noise: Tensor
) -> Tensor:
    """Their own bands, moved up, with some noise; noise alone for latents that are no bands.

    Args:
        network: that tells envelopes.
        decoder: of its latents.
        low: normalised low-res latents ``[B, C, T]``, B at least 1.
        cutoffs: of each, where it ends, as a share of the Nyquist frequency.
        noise: standard normal ``[B, C, T]``.
    """
    if not network.config.cutoff:
        return noise
    power, own = network.config.power, decoder.normaliser.lr.invert(low)
    every = zip(own, cutoffs, noise, strict=True)
    return torch.stack([excitation(decoder.codec, o, power, c, n) for o, c, n in every])


@torch.no_grad()
def fill(
    network: DiT,
    normaliser: Normaliser,
    given: Conditions,
    noise: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Low-res latents, filled up to the envelope that a network tells.

    Args:
        network: of a preset with prediction ``envelope``.
        normaliser: that it was trained with.
        given: conditions of the batch.
        noise: ``[B, C, T]``, on the device of the conditions: what they are filled up with, of unit
            power. Standard normal, or what ``excited`` makes of that.
        lengths: int64 ``[B]``, where samples end before T.

    Returns:
        normalised data, float32 ``[B, C, T]``; zero behind the end of a sample.
    """
    power = network.config.power
    with evaluating(network):
        level = network(torch.zeros_like(noise), noise.new_zeros(len(noise)), given, lengths)
    low = normaliser.hr.apply(normaliser.lr.invert(given.low))
    return ended(filled(level, low, noise, power, lengths), lengths)
