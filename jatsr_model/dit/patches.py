"""Frames <-> patches of frames.

A patch never holds padding: where the length is no multiple of the patch, the last patch is moved
back until it ends with the last frame, and its position says so, in fractions of a patch. Frames
that lie in two patches are taken from the earlier one. (The original fills up with zeros instead
and attends to them; that is ``legacy``.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from jatsr_model.lengths import ended


@dataclass(frozen=True)
class Grid:
    """Where the patches of a batch lie.

    Args:
        patch: frames per patch, P.
        frames: frames of the batch, T.
        positions: float32 ``[B or 1, N]``, first frames of the patches divided by P.
        starts: int64 ``[B or 1, N]``; None where patch n simply starts at frame n P.
        lengths: int64 ``[B or 1, 1]`` frames that are not padding; None where all are.
    """

    patch: int
    frames: int
    positions: Tensor
    starts: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def keep(self) -> Tensor | None:
        """Bool ``[B, N]``, False for patches that lie in the padding; None where none does."""
        if self.starts is None or self.lengths is None:
            return None
        count = self.starts.shape[1]
        return torch.arange(count, device=self.starts.device) * self.patch < self.lengths

    def masked(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` with zeros for padding."""
        return ended(x, None if self.lengths is None else self.lengths[:, 0])


def make_grid(
    frames: int, patch: int, lengths: Tensor | None, device: torch.device, *, legacy: bool = False
) -> Grid:
    """Lay patches over T frames.

    Args:
        frames: T.
        patch: P.
        lengths: int64 ``[B]``, at least 1 and at most T, where samples end before T.
        device: where to make the grid.
        legacy: follow one another from frame 0, filled up with zeros.
    """
    count = -(-frames // patch)
    first = torch.arange(count, device=device) * patch
    if lengths is None and (legacy or frames % patch == 0):
        return Grid(patch, frames, first[None].float() / patch)
    ends = torch.full((1, 1), frames, device=device) if lengths is None else lengths[:, None]
    starts = first.minimum(ends - patch).clamp(min=0)
    return Grid(patch, frames, starts.float() / patch, starts, None if lengths is None else ends)


def patchify(x: Tensor, grid: Grid) -> Tensor:
    """``[B, C, T]`` -> ``[B, N, C * P]``, the frames of a channel side by side."""
    patch, count = grid.patch, grid.positions.shape[1]
    if grid.starts is None:
        if count * patch > grid.frames:  # pad would copy
            x = functional.pad(x, (0, count * patch - grid.frames))
        return torch.unflatten(x, 2, (count, patch)).transpose(1, 2).flatten(2)
    x = functional.pad(x, (0, max(patch - grid.frames, 0)))
    index = grid.starts[:, :, None] + torch.arange(patch, device=x.device)
    picked = x.gather(2, _spread(index.flatten(1), x))
    if grid.lengths is not None:  # only a sample shorter than a patch has such frames
        picked = picked.where(_spread((index < grid.lengths[..., None]).flatten(1), x), 0)
    return torch.unflatten(picked, 2, (count, patch)).transpose(1, 2).flatten(2)


def unpatchify(x: Tensor, grid: Grid) -> Tensor:
    """``[B, N, C * P]`` -> ``[B, C, T]``; frames of padding are zero."""
    patch = grid.patch
    x = torch.unflatten(x, 2, (-1, patch)).transpose(1, 2).flatten(2)
    if grid.starts is None:
        return x[..., : grid.frames]
    frame = torch.arange(grid.frames, device=x.device)
    offset = (frame - grid.starts[:, frame // patch]).clamp(max=patch - 1)
    x = x.gather(2, _spread(frame // patch * patch + offset, x))
    return grid.masked(x)


def _spread(index: Tensor, x: Tensor) -> Tensor:
    """``[B or 1, K]`` as an index into every channel of x: ``[B, C, K]``."""
    return index[:, None].expand(x.shape[0], x.shape[1], -1)
