"""Self-attention with grouped queries and rotary positions; cross-attention to conditions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.layers import make_norm
from jatsr_model.dit.rotary import Rotation, rotate


class Attention(nn.Module):
    """Scaled dot-product attention; each key head serves ``heads / kv_heads`` query heads.

    Args:
        config: width, heads, and in legacy mode dropout.
        kv_heads: key and value heads.
        source_dim: width of what keys and values are made of.
    """

    def __init__(self, config: DiTConfig, kv_heads: int, source_dim: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.group = config.heads // kv_heads
        self.dropout = config.dropout if config.legacy else 0.0
        self.query = nn.Linear(config.hidden, config.hidden, bias=False)
        self.key = nn.Linear(source_dim, kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(source_dim, kv_heads * self.head_dim, bias=False)
        self.out = nn.Linear(config.hidden, config.hidden, bias=False)
        self.query_norm = make_norm("rms", self.head_dim) if config.qk_norm else nn.Identity()
        self.key_norm = make_norm("rms", self.head_dim) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        *,
        mask: Tensor | None = None,
        turn: Rotation | None = None,
    ) -> Tensor:
        """Let tokens look at a source.

        Args:
            x: ``[B, N, hidden]``.
            source: ``[B, M, source_dim]``; ``x`` itself for self-attention.
            mask: bool ``[B, 1, 1, M]``, False where nobody may look.
            turn: rotary positions of both; only where N == M.

        Returns:
            ``[B, N, hidden]``.
        """
        query = self.query_norm(self._heads(self.query(x)))
        key = self.key_norm(self._heads(self.key(source)))
        if turn is not None:
            query, key = rotate(query, turn), rotate(key, turn)
        value = self._heads(self.value(source))
        if mask is not None:  # no fused kernel on GPUs takes both a mask and groups
            key, value = (x.repeat_interleave(self.group, dim=1) for x in (key, value))
        mixed = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=self.group > 1 and mask is None,
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (-1, self.head_dim)).transpose(1, 2)
