"""The network itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from jatsr_model.dit.block import Block, Modulator
from jatsr_model.dit.conditions import ConditionEncoder, Conditions, Context
from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.embeddings import TimeEmbedder
from jatsr_model.dit.ends import Entry, Head, Skip
from jatsr_model.dit.patches import Grid, make_grid
from jatsr_model.dit.rotary import Rotation, rotation
from shards.errors import ConfigError


class _Tokens(NamedTuple):
    """What every block gets: see ``Block.forward``."""

    vector: Tensor
    turn: Rotation
    mask: Tensor | None
    context: Context | None


class DiT(nn.Module):
    """A diffusion transformer over latent frames, conditioned on low-res latents.

    Args:
        config: its shape.

    Attributes:
        recompute: compute the activations of blocks again in the backward pass instead of keeping
            them; the trainer sets it where memory is short.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.conditions = ConditionEncoder(config)
        self.entry = Entry(config)
        self.time = TimeEmbedder(config)
        self.shared = Modulator(config.hidden) if config.modulation == "shared" else None
        rate = config.drop_path / max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(Block(config, i * rate) for i in range(config.depth))
        self.head = Head(config)
        self.skip = Skip(config) if config.skip else None

    def forward(
        self, noisy: Tensor, t: Tensor, given: Conditions, lengths: Tensor | None = None
    ) -> Tensor:
        """Predict data or velocity, whichever the network was trained for.

        Args:
            noisy: ``[B, C, T]``, any T from 1.
            t: ``[B]`` in [0, 1]; 0 is noise, 1 is data.
            given: conditions of the batch.
            lengths: int64 ``[B]`` frames of each sample, 1 to T, where some end before T; what lies
                behind the end changes nothing.

        Returns:
            ``[B, C, T]``; zero behind the end of a sample.

        Raises:
            ConfigError: lengths for a legacy network, which knows no padding.
        """
        if self.config.legacy and lengths is not None:
            raise ConfigError(
                "a legacy network attends to padding, so it cannot take samples of unequal length",
                hint="batch samples of one length, or use the preset without legacy",
            )
        frames = noisy.shape[-1]
        grid = make_grid(
            frames, self.config.patch, lengths, noisy.device, legacy=self.config.legacy
        )
        rolloff = self.conditions.rolloff(given)
        vector = self.time(t) + self.conditions.vector(rolloff)
        low = self.conditions.low(given)
        x = self.entry(torch.cat([noisy, low], dim=1), grid, given.cutoff)
        x = self._run(x, vector, grid, self.conditions.context(given, rolloff))
        out: Tensor = self.head(x, vector, grid)
        if self.skip is None:
            return out
        data: Tensor = self.skip(out, grid.masked(noisy), grid.masked(low), t, vector)
        return data

    def _run(self, x: Tensor, vector: Tensor, grid: Grid, context: Context | None) -> Tensor:
        positions, keep = grid.positions, grid.keep
        front = self.config.modulation == "token"
        if front:
            x = torch.cat([vector.to(x.dtype)[:, None], x], dim=1)
            positions = functional.pad(positions, (1, 0), value=-1.0)
            keep = None if keep is None else functional.pad(keep, (1, 0), value=True)
        given = _Tokens(
            vector=vector if self.shared is None else self.shared(vector),
            turn=rotation(positions, self.config.rotated),
            mask=None if keep is None else keep[:, None, None],
            context=context,
        )
        for block in self.blocks:
            if self.recompute and self.training:
                x = checkpoint(block, x, *given, use_reentrant=False)
            else:
                x = block(x, *given)
        return x[:, 1:] if front else x
