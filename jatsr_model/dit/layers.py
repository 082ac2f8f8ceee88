"""Norms, MLPs and stochastic depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from jatsr_model.dit.config import DiTConfig, Norm

EPSILON = 1e-6


class ScaledLayerNorm(nn.LayerNorm):
    """Layer norm with a learned scale and no shift."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON, bias=False)


class RmsNorm(nn.RMSNorm):
    """RMSNorm with a learned scale, in the type of its input, for which there is a fast kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` -> ``[..., width]``."""
        assert self.weight is not None
        return functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def make_norm(kind: Norm, width: int) -> nn.Module:
    """A norm over the last dimension."""
    if kind == "rms":
        return RmsNorm(width, eps=EPSILON)
    if kind == "scaled-layer":
        return ScaledLayerNorm(width)
    return nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)


class FeedForward(nn.Module):
    """The MLP of a block: ``[..., hidden]`` -> ``[..., hidden]``."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.gated = config.mlp == "swiglu"
        self.up = nn.Linear(config.hidden, config.mlp_hidden * (2 if self.gated else 1))
        self.down = nn.Linear(config.mlp_hidden, config.hidden)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """GELU, or the first half times SiLU of the second (Shazeer, 2020)."""
        x = self.up(x)
        if self.gated:
            value, gate = x.chunk(2, dim=-1)
            x = value * functional.silu(gate)
        else:
            x = functional.gelu(x)
        return self._dropped(self.down(self._dropped(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop(x, x.shape, self.dropout) if self.training and self.dropout else x


class DropPath(nn.Module):
    """Drops a residual branch per sample and scales up what remains (Huang et al., 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drops = rate > 0
        # torch.compile makes one graph for all rates in tensors, and one for each in a number.
        # On the CPU, wherever the network is made and goes: that of a GPU reads it from there.
        self.rate = torch.tensor(rate, device="cpu")

    def forward(self, branch: Tensor) -> Tensor:
        """``[B, ...]`` -> ``[B, ...]``; the identity outside of training."""
        if not (self.training and self.drops):
            return branch
        return drop(branch, (branch.shape[0],) + (1,) * (branch.ndim - 1), self.rate)


def drop(x: Tensor, shape: Sequence[int], rate: Tensor | float) -> Tensor:
    """Zero a random share and scale up the rest; torch's own dropout is far slower on CPUs.

    Args:
        x: any shape.
        shape: of the decisions, which broadcast to x.
        rate: share that is dropped.
    """
    kept = torch.rand(shape, device=x.device) >= rate
    return x * kept / (1 - rate)
