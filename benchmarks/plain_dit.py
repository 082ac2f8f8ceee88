"""The same networks written the obvious way, which is what ``training.py`` compares with.

Attention is two products and a softmax over repeated heads, rotary positions turn halves of whole
heads, every block makes shifts, scales and gates for itself and applies them one by one. Parameters
have the names of ``DiT``, so that weights can be copied. Samples have no padding, there is no text.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jatsr_model.dit import Conditions, DiTConfig
from jatsr_model.dit.layers import EPSILON


class PlainDiT(nn.Module):
    """As ``DiT``, for the presets v1 to v3mod3, s, m, mdct-s and mdct-m."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        known = config.modulation in ("block", "shared") and config.entry != "convolution"
        assert known, "the plain network does not know this kind"
        assert config.norm == "layer", "the plain network does not know this norm"
        assert config.time == "sinusoid", "the plain network does not know this embedding of time"
        assert not config.text_dim, "the plain network knows no text"
        assert not config.legacy, "the plain network knows no zeros at the end"
        self.config, hidden = config, config.hidden
        width = 2 * config.latent_dim * config.patch
        self.entry: Any = nn.Module()
        self.time: Any = nn.Module()
        self.head: Any = nn.Module()
        self.entry.project = nn.Linear(width, hidden)
        if config.entry == "bottleneck":
            layers = (nn.Linear(width, config.bottleneck), nn.Linear(config.bottleneck, hidden))
            self.entry.project = nn.Sequential(layers[0], nn.GELU(), layers[1])
        self.time.mlp = nn.Sequential(
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        self.conditions = _Conditions(config)
        self.blocks = nn.ModuleList(
            _Block(config, config.drop_path * i / max(config.depth - 1, 1))
            for i in range(config.depth)
        )
        if config.modulation == "shared":
            self.shared = _Modulation(hidden)
            self.head.offset = nn.Parameter(torch.zeros(2, hidden))
        told = 2 if config.skip else 1
        self.head.project = nn.Linear(hidden, told * config.latent_dim * config.patch)
        if config.skip:
            self.skip: Any = nn.Module()
            self.skip.gain = nn.Linear(hidden, config.latent_dim)

    def forward(self, noisy: Tensor, t: Tensor, given: Conditions) -> Tensor:
        """Predict ``[B, C, T]``."""
        low, rolloff = self.conditions(given)
        patches, starts = self._patches(torch.cat([noisy, low], dim=1))
        vector = self.time.mlp(self._sinusoids(t))
        if rolloff is not None:
            vector = vector + rolloff
        parts = self.shared(vector) if self.config.modulation == "shared" else vector
        x = self.entry.project(patches)
        cos, sin = self._rotation(starts / self.config.patch)
        for block in self.blocks:
            x = block(x, parts, cos, sin)
        x = _norm(x)
        if self.config.modulation == "shared":
            x = _modulate(x, vector + self.head.offset[0], vector + self.head.offset[1])
        found = self._frames(self.head.project(x), noisy.shape[-1])
        if not self.config.skip:
            return found
        mean, level = found.float().split(low.shape[1], dim=1)
        mean = mean + self.skip.gain(vector)[..., None] * low
        t, power = t[:, None, None], torch.exp(2 * level.clamp(-5, 5))
        return mean + t * power / (t**2 * power + (1 - t) ** 2) * (noisy - t * mean)

    def _patches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, N, C P]`` and first frames; the last patch ends with the last frame."""
        size, frames = self.config.patch, x.shape[-1]
        starts = torch.arange(0, frames, size).clamp(max=frames - size)
        if frames % size:
            x = torch.cat([x[..., : frames // size * size], x[..., -size:]], dim=-1)
        x = x.reshape(x.shape[0], x.shape[1], -1, size).permute(0, 2, 1, 3)
        return x.reshape(x.shape[0], x.shape[1], -1), starts

    def _frames(self, x: Tensor, frames: int) -> Tensor:
        size = self.config.patch
        x = x.reshape(x.shape[0], x.shape[1], -1, size).permute(0, 2, 1, 3)
        x = x.reshape(x.shape[0], x.shape[1], -1)
        over = frames % size
        return torch.cat([x[..., : frames - over], x[..., -over:]], dim=-1) if over else x

    def _sinusoids(self, t: Tensor) -> Tensor:
        half = self.config.hidden // 2
        steps = torch.arange(half) / (half - 1)
        angles = self.config.time_scale * t[:, None] * torch.exp(-math.log(10_000) * steps)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        size = self.config.head_dim
        angles = positions[:, None] * 10_000 ** (-torch.arange(0, size, 2) / size)
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos(), angles.sin()


class _Conditions(nn.Module):
    """Low-res latents, and embedded roll-offs, with what stands for those that are missing."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.width = config.rolloff_dim
        self.null_low: Any = nn.Module()
        self.null_rolloff: Any = nn.Module()
        if config.null == "learned":
            self.null_low.vector = nn.Parameter(torch.zeros(config.latent_dim))
        if self.width:
            self.input_rolloff, self.target_rolloff = _Number(self.width), _Number(self.width)
            self.null_rolloff.vector = nn.Parameter(torch.zeros(2 * self.width))
            self.rolloff_mlp = nn.Sequential(
                nn.Linear(2 * self.width, config.hidden, bias=False),
                nn.SiLU(),
                nn.Linear(config.hidden, config.hidden, bias=False),
            )

    def forward(self, given: Conditions) -> tuple[Tensor, Tensor | None]:
        low = given.low
        if given.has_low is not None:
            null = getattr(self.null_low, "vector", torch.zeros(low.shape[1]))
            low = torch.where(given.has_low[:, None, None], low, null[:, None])
        if not self.width or given.rolloff is None:
            return low, None
        values = (self.input_rolloff(given.rolloff[:, 0]), self.target_rolloff(given.rolloff[:, 1]))
        rolloff = torch.stack(values, dim=1)
        if given.has_rolloff is not None:
            null = self.null_rolloff.vector.view(2, -1)
            rolloff = torch.where(given.has_rolloff[..., None], rolloff, null)
        return low, self.rolloff_mlp(rolloff.flatten(1))


class _Number(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.features: Any = nn.Module()
        self.features.weight = nn.Parameter(torch.randn(128))
        self.project = nn.Linear(257, width)

    def forward(self, value: Tensor) -> Tensor:
        angles = 2 * math.pi * value[:, None] * self.features.weight
        features = torch.cat([value[:, None], angles.cos(), angles.sin()], dim=-1)
        out: Tensor = self.project(features)
        return out


class _Modulation(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, 6 * hidden)

    def forward(self, vector: Tensor) -> Tensor:
        out: Tensor = self.project(functional.silu(vector))
        return out.reshape(len(vector), 6, -1)


class _Offset(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(6, hidden))

    def forward(self, shared: Tensor) -> Tensor:
        return shared + self.offset


class _Block(nn.Module):
    def __init__(self, config: DiTConfig, drop_path: float) -> None:
        super().__init__()
        shared = config.modulation == "shared"
        self.modulation = (_Offset if shared else _Modulation)(config.hidden)
        self.attention, self.mlp = _Attention(config), _Mlp(config)
        self.drop_path = drop_path

    def forward(self, x: Tensor, vector: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(vector).unbind(1)
        branch = self.attention(_modulate(_norm(x), shift1, scale1), cos, sin)
        x = x + self._dropped(gate1[:, None] * branch)
        branch = self.mlp(_modulate(_norm(x), shift2, scale2))
        return x + self._dropped(gate2[:, None] * branch)

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return branch
        kept = torch.rand(len(branch), 1, 1) >= self.drop_path
        return branch / (1 - self.drop_path) * kept


class _Attention(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.width, hidden = config.head_dim, config.hidden
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, self.kv_heads * self.width, bias=False)
        self.value = nn.Linear(hidden, self.kv_heads * self.width, bias=False)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.query_norm = _Rms(self.width) if config.qk_norm else nn.Identity()
        self.key_norm = _Rms(self.width) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query = self.query(x).view(batch, tokens, self.heads, self.width).transpose(1, 2)
        key = self.key(x).view(batch, tokens, self.kv_heads, self.width).transpose(1, 2)
        value = self.value(x).view(batch, tokens, self.kv_heads, self.width).transpose(1, 2)
        query = _rotate(self.query_norm(query), cos, sin)
        key = _rotate(self.key_norm(key), cos, sin)
        key = key.repeat_interleave(self.heads // self.kv_heads, dim=1)
        value = value.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores = query @ key.transpose(-2, -1) / math.sqrt(self.width)
        mixed = torch.softmax(scores, dim=-1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, -1))
        return out


class _Mlp(nn.Module):
    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.gated = config.mlp == "swiglu"
        self.up = nn.Linear(config.hidden, config.mlp_hidden * (2 if self.gated else 1))
        self.down = nn.Linear(config.mlp_hidden, config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.gated:
            value, gate = x.chunk(2, dim=-1)
            x = value * functional.silu(gate)
        else:
            x = functional.gelu(x)
        out: Tensor = self.dropout(self.down(self.dropout(x)))
        return out


class _Rms(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * self.weight


def _norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=EPSILON)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
