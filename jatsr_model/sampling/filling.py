"""From an envelope to data in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jatsr_data import Normaliser
from jatsr_model.dit import DiT
from jatsr_model.dit.conditions import Conditions
from jatsr_model.envelopes import filled
from jatsr_model.excitation import excitation
from jatsr_model.sampling.sampler import evaluating


class Move(NamedTuple):
    """Where an input ends, as a share of the Nyquist frequency, and by how far its band is moved.

    The latter in channels, see ``distance``.
    """

    cutoff: float
    step: int


@torch.no_grad()
def fill(
    network: DiT,
    normaliser: Normaliser,
    given: Conditions,
    noise: Tensor,
    lengths: Tensor | None = None,
    moves: Sequence[Move] = (),
) -> Tensor:
    """Low-res latents, filled up to the envelope that a network tells.

    Args:
        network: of a preset with prediction ``envelope``.
        normaliser: that it was trained with.
        given: conditions of the batch.
        noise: ``[B, C, T]``, standard normal, on the device of the conditions.
        lengths: int64 ``[B]``, where samples end before T.
        moves: of every sample, for latents that are bands of audio: their own bands are a part of
            what they are filled up with. Empty for noise alone.

    Returns:
        normalised data, float32 ``[B, C, T]``; zero behind the end of a sample.
    """
    power = network.config.power
    with evaluating(network):
        level = network(torch.zeros_like(noise), noise.new_zeros(len(noise)), given, lengths)
    low = normaliser.hr.apply(normaliser.lr.invert(given.low))
    if moves:
        heard = normaliser.lr.invert(given.low)
        heard = torch.copysign(heard.abs() ** (power / 2), heard)
        every = zip(heard, moves, noise, strict=True)
        noise = torch.stack([excitation(own, *move, drawn) for own, move, drawn in every])
    data = filled(level, low, noise, power)
    if lengths is None:
        return data
    inside = torch.arange(data.shape[-1], device=data.device) < lengths[:, None]
    return data.where(inside[:, None], 0)
