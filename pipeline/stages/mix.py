"""Any number of channels to mono or stereo."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["mono", "stereo"]
MAX_CHANNELS = 8

_H = 0.5**0.5  # -3 dB: centre and surround channels go to both sides or to their own side
# Rows L and R over the WAV channel order. A low-frequency effects channel is left out: it holds
# no content of its own in music and would clip the sum.
_DOWNMIX: dict[int, tuple[str, list[list[float]]]] = {
    3: ("3.0", [[1, 0, _H], [0, 1, _H]]),
    4: ("quad", [[1, 0, _H, 0], [0, 1, 0, _H]]),
    5: ("5.0", [[1, 0, _H, _H, 0], [0, 1, _H, 0, _H]]),
    6: ("5.1", [[1, 0, _H, 0, _H, 0], [0, 1, _H, 0, 0, _H]]),
    7: ("6.1", [[1, 0, _H, 0, 0.5, _H, 0], [0, 1, _H, 0, 0.5, 0, _H]]),
    8: ("7.1", [[1, 0, _H, 0, _H, 0, _H, 0], [0, 1, _H, 0, 0, _H, 0, _H]]),
}


def mix(block: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Mix one block; every sample is mixed alone, so blocks may be cut anywhere.

    One and two channels: mono is their mean, stereo from mono is the channel twice. Three to
    eight channels are taken in WAV order (front left, front right, centre, LFE, back, side),
    weighted 1 for front, -3 dB for centre and surrounds (ITU-R BS.775), 0 for LFE, and divided by
    the sum of the weights so that full-scale input cannot clip; mono is the mean of that stereo.

    Args:
        block: float32 ``(n, channels)``.
        layout: ``mono`` or ``stereo``.

    Returns:
        float32 ``(1, n)`` or ``(2, n)``, C-contiguous.

    Raises:
        ValueError: more than eight channels.
    """
    channels = block.shape[1]
    if channels <= 2:
        return _mix_plain(block, layout)
    if channels not in _DOWNMIX:
        raise ValueError(f"expected 1 to {MAX_CHANNELS} channels, found {channels}")
    matrix = _matrix(channels)
    if layout == "mono":
        matrix = matrix.mean(axis=0, keepdims=True)
    # One channel after the other: a matrix product may sum in an order that depends on n.
    mixed = np.zeros((len(matrix), len(block)), np.float32)
    for row, out in zip(matrix, mixed, strict=True):
        for weight, samples in zip(row, block.T, strict=True):
            if weight:
                out += np.float32(weight) * samples
    return mixed


def mix_name(channels: int, layout: Layout) -> str:
    """What ``mix`` does, for the record: ``stereo->mono``, ``5.1->stereo``."""
    names = {1: "mono", 2: "stereo"} | {n: name for n, (name, _) in _DOWNMIX.items()}
    return f"{names[channels]}->{layout}"


def _mix_plain(block: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    if layout == "mono":
        if block.shape[1] == 1:
            return np.ascontiguousarray(block.T)
        mean = block[:, 0] + block[:, 1]
        mean *= np.float32(0.5)
        return mean[np.newaxis]
    if block.shape[1] == 1:
        return np.repeat(block.T, 2, axis=0)
    return np.ascontiguousarray(block.T)


def _matrix(channels: int) -> NDArray[np.float64]:
    matrix = np.array(_DOWNMIX[channels][1])
    normalised: NDArray[np.float64] = matrix / matrix.sum(axis=1).max()
    return normalised
