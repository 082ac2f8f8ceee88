"""Both ends of the network: latents to tokens, tokens to latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.layers import make_norm
from jatsr_model.dit.patches import Grid, patchify, unpatchify


class Entry(nn.Module):
    """Noisy and low-res latents ``[B, 2 C, T]`` -> tokens ``[B, N, hidden]``."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, convolves = 2 * config.latent_dim * config.patch, config.entry == "convolution"
        self.convolution = _residual(2 * config.latent_dim) if convolves else None
        if config.entry == "bottleneck":
            self.project: nn.Module = nn.Sequential(
                nn.Linear(width, config.bottleneck),
                nn.GELU(),
                nn.Linear(config.bottleneck, config.hidden),
            )
        else:
            self.project = nn.Linear(width, config.hidden, bias=not convolves)

    def forward(self, latents: Tensor, grid: Grid) -> Tensor:
        """Project the patches."""
        if self.convolution is not None:
            if grid.lengths is not None:  # NaN behind the end would reach the convolution's weights
                inside = torch.arange(grid.frames, device=latents.device) < grid.lengths[..., None]
                latents = latents.where(inside, 0)
            latents = latents + self.convolution(latents)
        out: Tensor = self.project(patchify(latents, grid))
        return out


class Head(nn.Module):
    """Tokens ``[B, N, hidden]`` -> latents ``[B, C, T]``; zero at start."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        convolves = config.entry == "convolution"
        self.norm = nn.Identity() if convolves else make_norm(config.norm, config.hidden)
        shared = config.modulation == "shared"
        self.offset = nn.Parameter(torch.zeros(2, config.hidden)) if shared else None
        self.project = nn.Linear(
            config.hidden, config.latent_dim * config.patch, bias=not convolves
        )
        nn.init.zeros_(self.project.weight)
        if not convolves:
            nn.init.zeros_(self.project.bias)
        self.convolution = _residual(config.latent_dim) if convolves else None

    def forward(self, x: Tensor, vector: Tensor, grid: Grid) -> Tensor:
        """Project to patches and put them in place.

        Args:
            x: tokens.
            vector: ``[B, hidden]``, time and roll-offs; shifts and scales where modulation is
                shared.
            grid: where the patches lie.
        """
        x = self.norm(x)
        if self.offset is not None:
            shift, scale = (vector[:, None] + self.offset).unsqueeze(2).unbind(1)
            x = x * (1 + scale) + shift
        latents = unpatchify(self.project(x), grid)
        if self.convolution is not None:
            latents = latents + self.convolution(latents)
        return latents


def _residual(channels: int) -> nn.Conv1d:
    """A 1x1 convolution that starts at zero, to be added to its input."""
    convolution = nn.Conv1d(channels, channels, 1, bias=False)
    nn.init.zeros_(convolution.weight)
    return convolution
