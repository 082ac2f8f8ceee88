"""Both ends of the network: latents to tokens, tokens to latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.layers import make_norm
from jatsr_model.dit.patches import Grid, patchify, unpatchify
from jatsr_model.envelopes import features, held

_MOST = 5.0  # log s is taken to lie between -_MOST and _MOST
_TINY = 1e-12  # where t is 0 or 1 and s at its end


class Entry(nn.Module):
    """Noisy and low-res latents ``[B, 2 C, T]`` -> tokens ``[B, N, hidden]``.

    Of signed numbers a projection makes signed sums, in which the loudness of a band is lost: a
    network for envelopes therefore gets levels.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, convolves = config, config.entry == "convolution"
        channels = 2 * config.latent_dim
        if config.tells_levels:
            channels = -(-config.latent_dim // config.band) * (3 if config.cutoff else 2)
        width = channels * config.patch
        self.convolution = _residual(2 * config.latent_dim) if convolves else None
        if config.entry == "bottleneck":
            self.project: nn.Module = nn.Sequential(
                nn.Linear(width, config.bottleneck),
                nn.GELU(),
                nn.Linear(config.bottleneck, config.hidden),
            )
        else:
            self.project = nn.Linear(width, config.hidden, bias=not convolves)

    def forward(self, latents: Tensor, grid: Grid, cutoff: Tensor | None = None) -> Tensor:
        """Project the patches; ``cutoff`` is that of ``Conditions``."""
        if self.config.tells_levels:
            low = grid.masked(latents.chunk(2, dim=1)[1])
            latents = features(low, self.config.power, self.config.band)
            if self.config.cutoff:
                latents = held(latents, cutoff)
        if self.convolution is not None:
            latents = grid.masked(latents)  # NaN behind the end would reach the weights
            latents = latents + self.convolution(latents)
        out: Tensor = self.project(patchify(latents, grid))
        return out


class Head(nn.Module):
    """Tokens ``[B, N, hidden]`` -> ``[B, C, T]``, or ``[B, 2 C, T]`` for a skip; zero at start."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        convolves = config.entry == "convolution"
        channels = config.latent_dim * (2 if config.skip else 1)
        self.norm = nn.Identity() if convolves else make_norm(config.norm, config.hidden)
        shared = config.modulation == "shared"
        self.offset = nn.Parameter(torch.zeros(2, config.hidden)) if shared else None
        self.project = nn.Linear(config.hidden, channels * config.patch, bias=not convolves)
        nn.init.zeros_(self.project.weight)
        if not convolves:
            nn.init.zeros_(self.project.bias)
        self.convolution = _residual(channels) if convolves else None

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


class Skip(nn.Module):
    """Data, from what the blocks expect of it and what is heard through the noise.

    The blocks say that the data at a place have mean m and deviation s. Of a normal distribution
    with these, given ``z = (1 - t) noise + t data``, the mean is Wiener's: ``m + w (z - t m)``,
    where ``w = t s^2 / (t^2 s^2 + (1 - t)^2)``. So blocks that are narrower than a patch need not
    pass z through, and a network that knows the envelope alone makes noise of that envelope. The
    low-res latents are a part of m, with a gain for every channel.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.gain = nn.Linear(config.hidden, config.latent_dim)  # of the low-res latents
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(
        self, found: Tensor, noisy: Tensor, low: Tensor, t: Tensor, vector: Tensor
    ) -> Tensor:
        """Data; zero where all of them are.

        Args:
            found: by the blocks, ``[B, 2 C, T]``: m without the low-res part, and log s.
            noisy: ``[B, C, T]``.
            low: low-res latents ``[B, C, T]``.
            t: ``[B]``.
            vector: ``[B, hidden]``, time and roll-offs.
        """
        mean, level = found.float().chunk(2, dim=1)
        gain: Tensor = self.gain(vector)
        mean = mean + gain[:, :, None] * low
        t = t[:, None, None]
        spread = (1 - t).square() * torch.exp(-2 * level.clamp(-_MOST, _MOST))  # (1 - t)^2 / s^2
        return mean + t / (t.square() + spread + _TINY) * (noisy - t * mean)


def _residual(channels: int) -> nn.Conv1d:
    """A 1x1 convolution that starts at zero, to be added to its input."""
    convolution = nn.Conv1d(channels, channels, 1, bias=False)
    nn.init.zeros_(convolution.weight)
    return convolution
