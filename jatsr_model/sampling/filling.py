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
from jatsr_model.lengths import ended
from jatsr_model.sampling.sampler import evaluating


@torch.no_grad()
def fill(
    network: DiT,
    normaliser: Normaliser,
    given: Conditions,
    noise: Tensor,
    lengths: Tensor | None = None,
    distances: Sequence[int] = (),
) -> Tensor:
    """Low-res latents, filled up to the envelope that a network tells.

    Args:
        network: of a preset with prediction ``envelope``.
        normaliser: that it was trained with.
        given: conditions of the batch.
        noise: ``[B, C, T]``, standard normal, on the device of the conditions.
        lengths: int64 ``[B]``, where samples end before T.
        distances: of every sample, by how many channels its own band is moved up to be a part of
            what it is filled up with, see ``excitation``; for latents that are bands of audio, with
            a cutoff among the conditions. Empty for noise alone.

    Returns:
        normalised data, float32 ``[B, C, T]``; zero behind the end of a sample.
    """
    power = network.config.power
    with evaluating(network):
        level = network(torch.zeros_like(noise), noise.new_zeros(len(noise)), given, lengths)
    stored = normaliser.lr.invert(given.low)
    if distances and given.cutoff is not None:
        heard = torch.copysign(stored.abs() ** (power / 2), stored)
        every = zip(heard, given.cutoff.tolist(), distances, noise, strict=True)
        noise = torch.stack([excitation(*each) for each in every])
    return ended(filled(level, normaliser.hr.apply(stored), noise, power), lengths)
