"""The embedded codec: a modified discrete cosine transform, no weights, perfect reconstruction.

Frame ``f`` transforms the samples ``[512 f - 256, 512 f + 768)`` under a sine window. Every
boundary ``512 f`` is a mirror: folding there is a plane rotation of the sample pairs that lie
symmetrically around it, after which frame ``f`` is the orthonormal DCT-IV of 512 values. A rotation
and a DCT-IV are both orthogonal, so the whole transform is, and its inverse is its transpose
(Princen and Bradley, 1986; the lapped form is Malvar, 1990).

Stored values are ``sign(c) sqrt(|c|)`` in float16: the square root spends the bits of a half where
music has its values, and unlike a power it is exactly rounded, hence equal on all machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from jatsr_model.codecs.base import Side

if TYPE_CHECKING:
    from torch import Tensor

    from shards.statistics import Spaces

SAMPLE_RATE = 44_100
HOP = 512
HALF = HOP // 2
VERSION = 1

IDENTITY: Mapping[str, Any] = {
    "name": "mdct",
    "version": VERSION,
    "sample_rate": SAMPLE_RATE,
    "hop": HOP,
    "companding": "sqrt",
}

# Angle of the sine window at the samples right of a boundary: pi/4 at the mirror, pi/2 far away.
_ANGLE = np.pi * (np.arange(HALF) + HALF + 0.5) / (2 * HOP)
_SIN = np.sin(_ANGLE).astype(np.float32)
_COS = np.cos(_ANGLE).astype(np.float32)
# Solves sin(a) x + cos(a) x' = x for x': continued so, an outermost fold is the identity.
_MIRROR = np.tan((np.pi / 2 - _ANGLE) / 2).astype(np.float32)


def fold(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotate the sample pairs around every inner frame boundary.

    Args:
        wave: ``[..., F * 512]``.

    Returns:
        ``[..., F - 2, 512]``: the folded blocks of all frames but the first and the last, whose
        outer neighbours are not there.
    """
    blocks = wave.reshape(*wave.shape[:-1], -1, HOP)
    inner = blocks[..., 1:-1, :]
    before = blocks[..., :-2, : -HALF - 1 : -1]  # mirrored around the left boundary
    after = blocks[..., 2:, HALF - 1 :: -1]  # mirrored around the right boundary, as stored
    folded = np.empty_like(inner)
    folded[..., :HALF] = _SIN * inner[..., :HALF] + _COS * before
    folded[..., HALF:] = _SIN[::-1] * inner[..., HALF:] - _COS[::-1] * after
    return folded


def compress(coefficients: NDArray[np.float32]) -> NDArray[np.float16]:
    """``sign(c) sqrt(|c|)`` as float16."""
    return np.copysign(np.sqrt(np.abs(coefficients)), coefficients).astype(np.float16)


# A product of fewer rows is computed in another order by another number of threads.
_LEAST_ROWS = 16


class MdctCodec:
    """512 bins per 512 samples; encodes with numpy alone, decodes with torch on any device.

    float16 cannot overflow while ``|x| <= 1e8``: a coefficient is the product of 1024 samples with
    a vector of norm 1, so ``|c| <= 32 max|x|`` and ``sqrt(32e8) = 56569 < 65504``.
    """

    name: str = "mdct"
    sample_rate: int = SAMPLE_RATE
    hop: int = HOP
    latent_dim: int = HOP
    stored_rows: int = HOP
    stored_dtype: np.dtype[Any] = np.dtype(np.float16)
    encode_context: int = 1
    decode_context: int = 1
    window_frames: int = 258
    batch_size: int = 4

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name, version and grid; there are no weights and the numerics are the CPU's."""
        return IDENTITY

    def extend(self, edge: NDArray[np.float32], side: Side) -> NDArray[np.float32]:
        """256 mirrored samples that make the outermost half window a hard edge, then zeros.

        Args:
            edge: float32 ``[..., 512]`` next to the edge.
            side: which end of the signal.

        Returns:
            float32 ``[..., 512]``.
        """
        beyond = np.zeros_like(edge)
        if side == "start":
            beyond[..., HALF:] = (edge[..., :HALF] * _MIRROR)[..., ::-1]
        else:
            beyond[..., :HALF] = -edge[..., ::-1][..., :HALF] * _MIRROR
        return beyond

    def encode_windows(self, waves: NDArray[np.float32]) -> NDArray[np.float16]:
        """``[B, F * 512]`` -> float16 ``[B, 512, F - 2]``; see ``Codec.encode_windows``."""
        bins = fft.dct(fold(np.ascontiguousarray(waves, np.float32)), type=4, norm="ortho")
        return np.ascontiguousarray(compress(bins).swapaxes(-1, -2))

    def latents_array(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """The stored values as float32 ``[..., 512, T]``."""
        return np.asarray(stored, np.float32)

    @property
    def spaces(self) -> Spaces:
        """The latents alone."""
        return {"": self.latents_array}

    def latents(self, stored: Tensor) -> Tensor:
        """The stored values as float32 ``[..., 512, T]``, on their device."""
        return stored.float()

    def decode(self, z: Tensor) -> Tensor:
        """Waveform of frames that begin and end at hard edges.

        Args:
            z: float ``[..., 512, T]``, companded coefficients.

        Returns:
            float32 ``[..., T * 512]``; differentiable in z.
        """
        import torch
        from torch.nn import functional

        frames = z.shape[-1]
        coefficients = (z * z.abs()).transpose(-1, -2).float()
        padded = functional.pad(coefficients, (0, 0, 0, max(_LEAST_ROWS - frames, 0)))
        blocks = (padded @ _dct4(z.device))[..., :frames, :]
        sin, cos = (torch.from_numpy(table).to(z.device) for table in (_SIN, _COS))
        right = blocks[..., 1:, :HALF]  # right of each inner boundary
        left = blocks[..., :-1, HALF:].flip(-1)  # left of it, mirrored
        first, last = blocks[..., :1, :HALF], blocks[..., -1:, HALF:]
        heads = torch.cat([first, sin * right - cos * left], dim=-2)
        tails = torch.cat([(cos * right + sin * left).flip(-1), last], dim=-2)
        return torch.cat([heads, tails], dim=-1).flatten(-2)


@lru_cache(maxsize=4)
def _dct4(device: Any) -> Tensor:
    """The orthonormal DCT-IV matrix; symmetric and its own inverse."""
    import torch

    points = np.arange(HOP) + 0.5
    matrix = np.sqrt(2 / HOP) * np.cos(np.pi / HOP * np.outer(points, points))
    with torch.inference_mode(False):  # cached: must also serve callers that differentiate
        return torch.from_numpy(matrix.astype(np.float32)).to(device)
