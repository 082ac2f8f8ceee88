"""Codes of DAC as numbers: its codebooks, and the projections of them that latents are sums of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import DacModel


class Tables(NamedTuple):
    """What codes are looked up in, on one device.

    Attributes:
        values: codebooks ``[books, size, dim]``.
        projected: their entries as latents, ``[books * size, latent_dim]``.
        matrix: from concatenated entries to latents, ``[latent_dim, books * dim]``.
        offset: what the matrix leaves out, ``[latent_dim, 1]``.
    """

    values: Tensor
    projected: Tensor
    matrix: Tensor
    offset: Tensor

    def to(self, device: torch.device) -> Tables:
        """The same on a device."""
        with torch.inference_mode(False):  # kept: must also serve callers that differentiate
            return Tables(*(table.to(device) for table in self))

    def latents(self, codes: Tensor) -> Tensor:
        """Sums of table rows: int64 ``[..., books, T]`` -> ``[..., latent_dim, T]``."""
        books, size = self.values.shape[:2]
        offsets = torch.arange(books, device=codes.device) * size
        rows = (codes.transpose(-1, -2) + offsets).reshape(-1, books)
        with torch.no_grad():
            z = functional.embedding_bag(rows, self.projected, mode="sum")
        shaped = z.reshape(*codes.shape[:-2], codes.shape[-1], self.projected.shape[1])
        return shaped.transpose(-1, -2).contiguous()

    def vectors(self, codes: Tensor) -> Tensor:
        """Codebook entries side by side: int64 ``[..., books, T]`` -> ``[..., books * dim, T]``."""
        books = torch.arange(len(self.values), device=codes.device)[:, None]
        entries = self.values[books, codes]  # [..., books, T, dim]
        return entries.transpose(-1, -2).flatten(-3, -2)

    def unproject(self, vectors: Tensor) -> Tensor:
        """Latents of ``[..., books * dim, T]``, entries or anything between."""
        return self.matrix @ vectors.float() + self.offset


@torch.no_grad()
def tables_of(model: DacModel) -> Tables:
    """Of a network, where its weights are."""
    quantizers = model.quantizer.quantizers
    projected = [q.out_proj(q.codebook.weight.T[None])[0].T for q in quantizers]
    return Tables(
        values=torch.stack([q.codebook.weight for q in quantizers]),
        projected=torch.cat(projected).contiguous(),
        matrix=torch.cat([q.out_proj.weight[..., 0] for q in quantizers], dim=1),
        offset=torch.stack([q.out_proj.bias for q in quantizers]).sum(0)[:, None],
    )
