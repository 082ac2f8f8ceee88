"""Decoding long latents piece by piece, equal to decoding them whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shards.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from jatsr_model.codecs.base import Codec


def decode_pieces(codec: Codec, z: Tensor, frames_per_chunk: int) -> Iterator[Tensor]:
    """Decode in chunks with ``decode_context`` discarded frames on both sides.

    Memory is that of one chunk and its context. Pieces touch without a seam because every kept
    frame has all the frames it depends on inside its chunk.

    Args:
        codec: any codec.
        z: ``[..., latent_dim, T]``.
        frames_per_chunk: frames kept of each chunk, at least 1.

    Yields:
        float32 ``[..., frames * hop]``, in order; together ``T * hop`` samples.
    """
    if frames_per_chunk < 1:
        raise ConfigError(f"expected at least 1 frame per chunk, got {frames_per_chunk}")
    frames = z.shape[-1]
    for start in range(0, frames, frames_per_chunk):
        stop = min(start + frames_per_chunk, frames)
        first = max(0, start - codec.decode_context)
        last = min(frames, stop + codec.decode_context)
        wave = codec.decode(z[..., first:last])
        yield wave[..., (start - first) * codec.hop : (stop - first) * codec.hop]


def decode_chunked(codec: Codec, z: Tensor, frames_per_chunk: int) -> Tensor:
    """All pieces joined: ``[..., latent_dim, T]`` -> float32 ``[..., T * hop]``."""
    import torch

    if z.shape[-1] == 0:
        return z.new_zeros((*z.shape[:-2], 0), dtype=torch.float32)
    return torch.cat(list(decode_pieces(codec, z, frames_per_chunk)), dim=-1)
