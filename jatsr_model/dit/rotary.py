"""Rotary positions (Su et al., 2021), half rotation: dimension i is paired with i + d/2.

Nothing is stored: angles are computed from the positions at hand, which may be fractions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BASE = 10_000.0


class Rotation(NamedTuple):
    """Cosines and sines, float32 ``[B or 1, 1, N, dimensions / 2]``."""

    cos: Tensor
    sin: Tensor


def rotation(positions: Tensor, dimensions: int) -> Rotation:
    """Angles ``position * BASE^(-2i / dimensions)``.

    Args:
        positions: float32 ``[B or 1, N]``.
        dimensions: how many dimensions of a head are rotated; even.
    """
    pairs = torch.arange(0, dimensions, 2, device=positions.device, dtype=torch.float32)
    angles = positions[:, None, :, None] * (1 / BASE ** (pairs / dimensions))
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn queries or keys; dimensions beyond the rotated ones pass unchanged.

    Args:
        x: ``[B, heads, N, head_dim]``.
        by: of N positions.
    """
    half = by.cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = [first * by.cos - second * by.sin, second * by.cos + first * by.sin]
    return torch.cat([part.to(x.dtype) for part in turned] + [rest], dim=-1)
