"""Noise as a function of its place: any window of a file of any length, without what lies before.

Raw numbers are those of Philox (Salmon et al., 2011) with the number of the block as its counter.
numpy guarantees them for good, as it does not its normal ones; Box and Muller's formula turns
them into those. Machines may differ in the last bits of logarithms and cosines, nothing else does.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 256  # frames made at once
_PAIRS = BLOCK // 2
_WORD = 1 << 64


def noise_field(
    seed: int, key: str | bytes, start_frame: int, frames: int, channels: int
) -> Tensor:
    """White Gaussian noise of mean 0 and variance 1.

    A value depends on seed, key, absolute frame and channel, and on nothing else: windows that
    overlap agree, and fewer channels are the first ones of more.

    Args:
        seed: any integer.
        key: what the noise is for, such as the hash of a file and the number of an audio channel;
            text stands for its UTF-8.
        start_frame: of the window; may be negative, since windows may begin before a file.
        frames: of the window.
        channels: of the latents.

    Returns:
        float32 ``[channels, frames]`` on the CPU.
    """
    field = np.empty((channels, frames), np.float32)
    words = _words(seed, key)
    end = start_frame + frames
    for block in range(start_frame // BLOCK, -(-end // BLOCK)):
        first, last = max(start_frame, block * BLOCK), min(end, (block + 1) * BLOCK)
        made = _block(words, block, channels)
        field[:, first - start_frame : last - start_frame] = made[
            :, first - block * BLOCK : last - block * BLOCK
        ]
    return torch.from_numpy(field)


def _words(seed: int, key: str | bytes) -> NDArray[np.uint64]:
    """The two words of a Philox key."""
    name = key.encode() if isinstance(key, str) else key
    digest = hashlib.sha256(str(seed).encode() + b"\0" + name).digest()
    return np.frombuffer(digest[:16], "<u8").astype(np.uint64)


def _block(words: NDArray[np.uint64], block: int, channels: int) -> NDArray[np.float32]:
    """``[channels, BLOCK]``; channel by channel, so that more of them change none."""
    counter = np.array([0, block % _WORD, 0, 0], np.uint64)
    raw = np.random.Philox(key=words, counter=counter).random_raw(channels * _PAIRS)
    pairs = raw.astype("<u8", copy=False).view("<u4").reshape(channels, _PAIRS, 2)
    # In (0, 1]; 32 bits, since 24 would end the tails at 5.8 standard deviations.
    radius = pairs[..., 0].astype(np.float32) * np.float32(2**-32) + np.float32(2**-33)
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)
    angle = pairs[..., 1].astype(np.float32) * np.float32(2 * np.pi * 2**-32)
    made = np.empty((channels, BLOCK), np.float32)
    np.cos(angle, out=made[:, :_PAIRS])
    np.sin(angle, out=made[:, _PAIRS:])
    made[:, :_PAIRS] *= radius
    made[:, _PAIRS:] *= radius
    return made
