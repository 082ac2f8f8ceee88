"""Numbers as vectors: time, and roll-offs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from jatsr_model.dit.config import DiTConfig

FEATURES = 128  # learned frequencies of a Fourier embedding
PERIOD = 10_000.0


def sinusoids(t: Tensor, width: int, scale: float) -> Tensor:
    """Sines, then cosines, of ``scale * t`` at frequencies from 1 down to 1 / PERIOD.

    With t in [0, 1], scale 1 gives nearly constant vectors; 1000 gives vectors that differ.

    Args:
        t: float32 ``[B]``.
        width: of a vector; even.
        scale: factor of t.

    Returns:
        float32 ``[B, width]``.
    """
    half = width // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32)
    frequencies = torch.exp(steps * (-math.log(PERIOD) / (half - 1)))
    angles = scale * t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FourierFeatures(nn.Module):
    """Cosines and sines of ``2 pi w t`` with learned w: ``[B]`` -> ``[B, 2 * FEATURES]``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(FEATURES))

    def forward(self, t: Tensor) -> Tensor:
        """float32, whatever the type of the network."""
        angles = 2 * math.pi * t.float()[:, None] * self.weight.float()
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Time in [0, 1] as a vector: ``[B]`` -> ``[B, hidden]``."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.hidden, self.scale = config.hidden, config.time_scale
        self.features = FourierFeatures() if config.time == "fourier" else None
        width = 2 * FEATURES if config.time == "fourier" else config.hidden
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden)
        )

    def forward(self, t: Tensor) -> Tensor:
        """Embed times."""
        if self.features is not None:
            features = self.features(t)
        else:
            features = sinusoids(t.float(), self.hidden, self.scale)
        out: Tensor = self.mlp(features.to(self.mlp[0].weight.dtype))
        return out


class ScalarEmbedding(nn.Module):
    """A number in [0, 1], such as a roll-off: ``[B]`` -> ``[B, width]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = FourierFeatures()
        self.project = nn.Linear(2 * FEATURES + 1, width)

    def forward(self, value: Tensor) -> Tensor:
        """The number itself beside its Fourier features, projected."""
        features = torch.cat([value.float()[:, None], self.features(value)], dim=-1)
        out: Tensor = self.project(features.to(self.project.weight.dtype))
        return out
