"""Samples to integers, with dither that is a function of seed and place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block

_NOISE_BLOCK = 1 << 16  # samples whose noise is drawn from one generator


def quantise(block: Block, bits: int, start: int, seed: int) -> NDArray[np.int32]:
    """Round to ``bits`` bits with triangular dither of two steps' width (TPDF).

    A sample that the integers can hold exactly is left as it is: digital silence stays silent, and
    what came from a file of this depth and was not changed comes out bit for bit. Values beyond the
    range are clipped; a ``Limiter`` comes before.

    Args:
        block: ``(C, n)``, full scale is 1.
        bits: 16 or 24.
        start: place of the block in the signal; blocks may be cut anywhere.
        seed: of the dither.

    Returns:
        ``(C, n)``, the value in the highest bits.
    """
    scale = 1 << (bits - 1)
    wanted = block.astype(np.float64) * scale
    nearest = np.rint(wanted)
    exact = nearest == wanted
    if not exact.all():
        noise = triangular(block.shape[0], start, block.shape[1], seed)
        nearest = np.where(exact, nearest, np.floor(wanted + noise + 0.5))
    integers = np.clip(nearest, -scale, scale - 1).astype(np.int32)
    shifted: NDArray[np.int32] = integers << (32 - bits)
    return shifted


def triangular(channels: int, start: int, samples: int, seed: int) -> NDArray[np.float64]:
    """Noise between -1 and 1 of triangular density, a function of seed, channel and place.

    Args:
        channels: C.
        start: place of the first sample.
        samples: n.
        seed: any integer of at least 0.

    Returns:
        ``(C, n)``.
    """
    first, last = start // _NOISE_BLOCK, -(-(start + samples) // _NOISE_BLOCK)
    noise = np.empty((channels, (last - first) * _NOISE_BLOCK))
    for channel, row in enumerate(noise):
        for number, part in enumerate(row.reshape(-1, _NOISE_BLOCK), first):
            draws = np.random.PCG64([seed, channel, number]).random_raw(_NOISE_BLOCK)
            # Two uniform numbers of 32 bits each; raw draws are the same in every numpy.
            part[:] = ((draws >> 32) + (draws & 0xFFFFFFFF)) / 2.0**32 - 1.0
    skip = start - first * _NOISE_BLOCK
    return noise[:, skip : skip + samples]
