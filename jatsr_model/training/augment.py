"""The same music in other shapes, so that a network does not learn few recordings by heart.

For latents whose channels are bands of audio. A random equaliser, as other mastering: it changes
high- and low-res signals alike. Other cutoffs than the dataset has: the low-res signal ends lower.
Recordings that end early by themselves: both do. Roll-offs are then those of what was made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from jatsr_data import Batch
from jatsr_model.chance import Chance
from shards.envelope import ROLLOFF_SHARE

LOWEST_CUT = 0.08  # share of the Nyquist frequency: inputs of 4 kHz end there
EARLIEST_END = 0.5  # share of the cutoff
UNSURE = 0.12  # by which share a cutoff may be told too low: where a filter begins to fall


@dataclass(frozen=True)
class Augment:
    """Changes batches of stored frames.

    Args:
        equalise: standard deviation of level, slope and wave of an equaliser, in units of log
            latents; 0 for none.
        cut: share of crops whose low-res signal is cut off at a random frequency.
        end: share of crops whose signals both end below the cutoff.
    """

    equalise: float = 0.0
    cut: float = 0.0
    end: float = 0.0

    def __call__(self, batch: Batch, chance: Chance) -> Batch:
        """A batch that was changed, on the CPU.

        Args:
            batch: of B crops.
            chance: of its crops.
        """
        hr, lr, cutoff, channels = batch.hr, batch.lr, batch.cutoff, batch.hr.shape[2]
        if self.equalise:
            gain = gains(chance, channels, self.equalise)[:, None, :, None].to(hr.dtype)
            hr, lr = hr * gain, lr * gain
        if self.cut:
            drawn = chance.uniform("cut", 3).float()
            other = torch.where(drawn[:, 0] < self.cut, LOWEST_CUT ** drawn[:, 1], 1.0)
            lr, cutoff = _low_passed(lr, other), torch.minimum(cutoff, other)
            cutoff = cutoff * (1 - UNSURE * drawn[:, 2])
        if self.end:
            drawn = chance.uniform("end", 2).float()
            early = cutoff * (EARLIEST_END + (1 - EARLIEST_END) * drawn[:, 1])
            end = torch.where(drawn[:, 0] < self.end, early, 1.0)
            hr, lr = _low_passed(hr, end), _low_passed(lr, end)
        if lr is batch.lr:
            return batch
        high, low = rolloffs(hr), rolloffs(lr)
        return replace(batch, hr=hr, lr=lr, cutoff=cutoff, rolloff_hr=high, rolloff_lr=low)


NO_CHANGE = Augment()
CHANGES = tuple(field.name for field in fields(Augment))  # as a recipe names them


def gains(chance: Chance, channels: int, strength: float) -> Tensor:
    """Factors of latents, float32 ``[B, channels]``: a level, a slope and a wave over channels."""
    size = chance.normal("equalise", 3)
    turns = chance.uniform("turns", 2).float()
    place = torch.linspace(0, 1, channels)
    wave = torch.sin(math.pi * ((1 + 2 * turns[:, :1]) * place + 2 * turns[:, 1:]))
    curve = size[:, :1] + size[:, 1:2] * 2 * (place - 0.3) + size[:, 2:] * wave
    return torch.exp(strength * curve)


def rolloffs(frames: Tensor) -> Tensor:
    """Roll-offs of stored frames, as ``shards.envelope.rolloff`` finds them in spectra.

    Channels are taken by their magnitudes, not by their sum, and rows are 43 Hz wide; on crops of
    music the two differ by 0.7 % of the Nyquist frequency in the mean, 1 % in standard deviation.

    Args:
        frames: ``[B, channels, rows, T]``, square roots of magnitudes.

    Returns:
        float32 ``[B]``, shares of the Nyquist frequency; 0 for silence.
    """
    magnitudes = frames.float().square().mean(1).sum(-1)
    below = magnitudes.cumsum(1)
    return (below < ROLLOFF_SHARE * below[:, -1:]).sum(1) / frames.shape[2]


def _low_passed(frames: Tensor, end: Tensor) -> Tensor:
    """Stored frames ``[B, channels, rows, T]``, nothing from a share ``[B]`` of the rows on."""
    rows = frames.shape[2]
    own = torch.arange(rows) < end[:, None] * rows
    return frames * own[:, None, :, None]
