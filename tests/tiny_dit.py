"""Diffusion transformers small enough for tests, with weights that are not zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from jatsr_model.dit import Conditions, DiT, DiTConfig

TINY = DiTConfig(
    latent_dim=6, hidden=32, depth=2, heads=4, kv_heads=2, mlp_hidden=48, patch=4, bottleneck=16
)
TOKEN = replace(
    TINY,
    mlp="swiglu",
    patch=1,
    entry="convolution",
    norm="scaled-layer",
    modulation="token",
    time="fourier",
    rotary=4,
    text_dim=12,
    text_kv_heads=2,
    rolloff_dim=12,
)
OURS = replace(
    TINY,
    mlp="swiglu",
    entry="linear",
    norm="rms",
    modulation="shared",
    qk_norm=True,
    rolloff_dim=8,
    null="learned",
    skip=True,
)
WITH_TEXT = replace(OURS, text_dim=8, text_kv_heads=2)
SHAPES = {
    "original": TINY,
    "rms": replace(TINY, norm="rms"),
    "token": TOKEN,
    "ours": OURS,
    "text": WITH_TEXT,
}


def awake(config: DiTConfig, seed: int = 0, **changes: Any) -> DiT:
    """A network in evaluation mode whose zeros were replaced by small random numbers."""
    torch.manual_seed(seed)
    network = DiT(replace(config, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def latents(batch: int, frames: int, seed: int = 0, channels: int = 6) -> Tensor:
    """White noise ``[B, C, T]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, frames, generator=generator)


def conditions(config: DiTConfig, batch: int, frames: int, seed: int = 1) -> Conditions:
    """Everything a network can be given."""
    generator = torch.Generator().manual_seed(seed + 100)
    text = max(config.text_dim, 1)
    return Conditions(
        low=latents(batch, frames, seed),
        rolloff=torch.rand(batch, 2, generator=generator),
        cutoff=torch.linspace(0.3, 1.0, batch),
        text=torch.randn(batch, 5, text, generator=generator),
        text_mask=torch.tensor([[True, True, True, False, False]]).expand(batch, -1),
    )
