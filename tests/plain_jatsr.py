"""A network in the layout of the public JaTSR checkpoints, written out plainly from its formulas.

Explicit softmax attention over expanded heads, stored tables of positions, zeros at the end: what
``legacy`` must compute.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TABLE = 64


class _Positions(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.tensor([10_000 ** (-2 * i / width) for i in range(width // 2)])
        angles = torch.arange(float(TABLE))[:, None] * torch.cat([frequencies, frequencies])
        self.register_buffer("inv_freq", frequencies)
        self.register_buffer("cos_cached", torch.cos(angles))
        self.register_buffer("sin_cached", torch.sin(angles))

    def forward(self, x: Tensor) -> Tensor:  # [B, heads, N, width]
        half = x.shape[-1] // 2
        partner = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        count = x.shape[2]
        return x * self.cos_cached[:count] + partner * self.sin_cached[:count]


class _Attention(nn.Module):
    def __init__(self, hidden: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = heads, kv_heads, hidden // heads
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(hidden, kv_heads * self.width, bias=False)
        self.out_proj = nn.Linear(hidden, hidden, bias=False)
        self.rope = _Positions(self.width)

    def forward(self, x: Tensor) -> Tensor:
        def heads(y: Tensor, count: int) -> Tensor:
            return y.view(*y.shape[:2], count, self.width).transpose(1, 2)

        group = self.heads // self.kv_heads
        query = self.rope(heads(self.q_proj(x), self.heads))
        key = self.rope(heads(self.k_proj(x), self.kv_heads))
        value = heads(self.v_proj(x), self.kv_heads)
        outs = []
        for head in range(self.heads):
            scores = query[:, head] @ key[:, head // group].transpose(1, 2)
            outs.append(torch.softmax(scores / math.sqrt(self.width), -1) @ value[:, head // group])
        return self.out_proj(torch.cat(outs, dim=-1))


class _Block(nn.Module):
    def __init__(self, hidden: int, heads: int, kv_heads: int, *, rms: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(hidden, rms=rms), _norm(hidden, rms=rms)
        self.attn = _Attention(hidden, heads, kv_heads)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * hidden, hidden)
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 6 * hidden))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        values = self.adaLN_modulation(time)[:, None]
        shift1, scale1, gate1, shift2, scale2, gate2 = values.split(x.shape[-1], dim=-1)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class PlainJatsr(nn.Module):
    def __init__(
        self,
        latent: int = 6,
        hidden: int = 32,
        depth: int = 2,
        heads: int = 4,
        kv_heads: int = 2,
        bottleneck: int = 16,
        *,
        rms: bool = False,
    ) -> None:
        super().__init__()
        self.latent, self.hidden = latent, hidden
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Sequential(
            nn.Linear(8 * latent, bottleneck), nn.GELU(), nn.Linear(bottleneck, hidden)
        )
        self.t_embedder = nn.Sequential(
            nn.Identity(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        self.blocks = nn.ModuleList(_Block(hidden, heads, kv_heads, rms=rms) for _ in range(depth))
        self.final_layer = nn.Sequential(_norm(hidden, rms=rms), nn.Linear(hidden, 4 * latent))

    def forward(self, noisy: Tensor, t: Tensor, low: Tensor) -> Tensor:
        frames = noisy.shape[-1]
        both = torch.cat([noisy, low], dim=1)
        both = torch.cat([both, torch.zeros(*both.shape[:2], -frames % 4)], dim=2)
        patches = [both[:, :, i : i + 4].flatten(1) for i in range(0, both.shape[2], 4)]
        x = self.patch_embed.proj(torch.stack(patches, dim=1))
        half = self.hidden // 2
        angles = t[:, None] * torch.tensor([1e4 ** (-i / (half - 1)) for i in range(half)])
        time = self.t_embedder(torch.cat([angles.sin(), angles.cos()], dim=1))
        for block in self.blocks:
            x = block(x, time)
        x = self.final_layer(x)
        pieces = [x[:, i].view(-1, self.latent, 4) for i in range(x.shape[1])]
        return torch.cat(pieces, dim=2)[:, :, :frames]


def _norm(hidden: int, *, rms: bool) -> nn.Module:
    if rms:
        return nn.RMSNorm(hidden, eps=1e-6)
    return nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)


def trained(seed: int = 0, **shape: Any) -> PlainJatsr:
    """Random weights of the size of trained ones; nothing is zero."""
    torch.manual_seed(seed)
    network = PlainJatsr(**shape)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def write_checkpoint(path: Path, network: PlainJatsr, prefix: str = "", **changes: Any) -> Path:
    """A file as the training scripts write it, with all that is beside the weights."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-5)
    attention = network.blocks[0].attn
    checkpoint = {
        "epoch": 3,
        "global_step": 1234,
        "best_val_loss": 0.25,
        "model_state_dict": {prefix + k: v for k, v in network.state_dict().items()},
        "optimizer_state_dict": optimizer.state_dict(),
        "rng": {
            "python": random.Random(0).getstate(),
            "numpy": np.random.RandomState(0).get_state(),
            "torch": torch.get_rng_state(),
        },
        "config": {
            "input_channels": network.latent,
            "cond_channels": network.latent,
            "patch_len": 4,
            "hidden_size": network.hidden,
            "depth": len(network.blocks),
            "num_q_heads": attention.heads,
            "num_kv_heads": attention.kv_heads,
            "mlp_ratio": 4.0,
            "dropout": 0.1,
            "drop_path_rate": 0.05,
        },
    }
    torch.save({**checkpoint, **changes}, path)
    return path
