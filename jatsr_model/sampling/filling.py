"""From an envelope to data in one step."""

from __future__ import annotations

import torch
from torch import Tensor

from jatsr_data import Normaliser
from jatsr_model.dit import DiT
from jatsr_model.dit.conditions import Conditions
from jatsr_model.envelopes import filled
from jatsr_model.lengths import ended
from jatsr_model.sampling.sampler import evaluating


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
            power. Standard normal, or an ``excitation``.
        lengths: int64 ``[B]``, where samples end before T.

    Returns:
        normalised data, float32 ``[B, C, T]``; zero behind the end of a sample.
    """
    power = network.config.power
    with evaluating(network):
        level = network(torch.zeros_like(noise), noise.new_zeros(len(noise)), given, lengths)
    low = normaliser.hr.apply(normaliser.lr.invert(given.low))
    return ended(filled(level, low, noise, power), lengths)
