"""Samples of a batch that end before the others do."""

from __future__ import annotations

import torch
from torch import Tensor


def ended(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Zeros behind the end of every sample, also where what is there is not finite.

    Args:
        x: ``[B, C, T]``.
        lengths: int64 ``[B]`` or ``[1]``, frames of each sample; None where all are full.
    """
    if lengths is None:
        return x
    inside = torch.arange(x.shape[-1], device=x.device) < lengths[:, None]
    return x.where(inside[:, None], 0)
