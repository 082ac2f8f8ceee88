"""The same music in other shapes, so that a network does not learn few recordings by heart.

For latents whose channels are bands of audio: a random equaliser, as other mastering. High- and
low-res signals are changed alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jatsr_data import Batch
from jatsr_model.chance import Chance


@dataclass(frozen=True)
class Augment:
    """Changes batches of stored frames.

    Args:
        equalise: standard deviation of level, slope and wave of an equaliser, in units of log
            latents; 0 for none.
    """

    equalise: float = 0.0

    def __call__(self, batch: Batch, chance: Chance) -> Batch:
        """A batch that was changed, on the CPU; roll-offs stay as they are told.

        Args:
            batch: of B crops.
            chance: of its crops.
        """
        if not self.equalise:
            return batch
        gain = gains(chance, batch.hr.shape[2], self.equalise)[:, None, :, None].to(batch.hr.dtype)
        return replace(batch, hr=batch.hr * gain, lr=batch.lr * gain)


NO_CHANGE = Augment()


def gains(chance: Chance, channels: int, strength: float) -> Tensor:
    """Factors of latents, float32 ``[B, channels]``: a level, a slope and a wave over channels."""
    size = chance.normal("equalise", 3)
    turns = chance.uniform("turns", 2).float()
    place = torch.linspace(0, 1, channels)
    wave = torch.sin(math.pi * ((1 + 2 * turns[:, :1]) * place + 2 * turns[:, 1:]))
    curve = size[:, :1] + size[:, 1:2] * 2 * (place - 0.3) + size[:, 2:] * wave
    return torch.exp(strength * curve)
