"""One transformer block and the three ways in which time modulates it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jatsr_model.dit.attention import Attention
from jatsr_model.dit.conditions import Context
from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.layers import DropPath, FeedForward, make_norm
from jatsr_model.dit.rotary import Rotation

PARTS = 6  # shift, scale, gate of attention, then of the MLP


class Modulator(nn.Module):
    """adaLN-Zero (Peebles and Xie, 2023): ``[B, hidden]`` -> ``[B, 6, hidden]``, zero at start."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, PARTS * hidden)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, vector: Tensor) -> Tensor:
        """Shifts, scales and gates."""
        return torch.unflatten(self.project(nn.functional.silu(vector)), -1, (PARTS, -1))


class Offsets(nn.Module):
    """A block's own offset to the shared modulation (Chen et al., 2023); zero at start."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(PARTS, hidden))

    def forward(self, shared: Tensor) -> Tensor:
        """``[B, 6, hidden]`` -> ``[B, 6, hidden]``."""
        return shared + self.offset


class Block(nn.Module):
    """Self-attention, cross-attention where there is text, MLP; every branch starts at zero."""

    def __init__(self, config: DiTConfig, drop_path: float) -> None:
        super().__init__()
        hidden = config.hidden
        self.attention_norm = make_norm(config.norm, hidden)
        self.attention = Attention(config, config.kv_heads, hidden)
        self.mlp_norm = make_norm(config.norm, hidden)
        self.mlp = FeedForward(config)
        self.drop_path = DropPath(drop_path)
        self.modulation: nn.Module | None = None
        if config.modulation == "block":
            self.modulation = Modulator(hidden)
        elif config.modulation == "shared":
            self.modulation = Offsets(hidden)
        else:  # no gates that could start at zero
            nn.init.zeros_(self.attention.out.weight)
            nn.init.zeros_(self.mlp.down.weight)
            nn.init.zeros_(self.mlp.down.bias)
        self.cross_norm: nn.Module | None = None
        self.cross: Attention | None = None
        if config.text_dim:
            self.cross_norm = make_norm(config.norm, hidden)
            self.cross = Attention(config, config.text_kv_heads, config.text_dim)
            nn.init.zeros_(self.cross.out.weight)

    def forward(
        self,
        x: Tensor,
        vector: Tensor,
        turn: Rotation,
        mask: Tensor | None,
        context: Context | None,
    ) -> Tensor:
        """Transform tokens.

        Args:
            x: ``[B, N, hidden]``.
            vector: ``[B, hidden]``, or ``[B, 6, hidden]`` where modulation is shared.
            turn: rotary positions of the tokens.
            mask: bool ``[B, 1, 1, N]``, False for tokens of padding.
            context: what cross-attention looks at.
        """
        parts = [None] * PARTS if self.modulation is None else self._parts(vector)
        inner = _enter(self.attention_norm(x), parts[0], parts[1])
        x = x + self._leave(self.attention(inner, inner, mask=mask, turn=turn), parts[2])
        if self.cross is not None and self.cross_norm is not None and context is not None:
            seen = self.cross(self.cross_norm(x), context.tokens, mask=context.mask)
            x = x + self.drop_path(seen)
        inner = _enter(self.mlp_norm(x), parts[3], parts[4])
        return x + self._leave(self.mlp(inner), parts[5])

    def _parts(self, vector: Tensor) -> list[Tensor]:
        assert self.modulation is not None
        return list(self.modulation(vector).unsqueeze(2).unbind(1))

    def _leave(self, branch: Tensor, gate: Tensor | None) -> Tensor:
        out: Tensor = self.drop_path(branch if gate is None else gate * branch)
        return out


def _enter(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    if shift is None or scale is None:
        return x
    return x * (1 + scale) + shift
