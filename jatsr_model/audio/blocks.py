"""Cutting a stream of sample blocks anew, so that results do not depend on how it was cut."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]  # (channels, samples)


class Fifo:
    """Samples waiting to be taken; holds references to the blocks pushed, copies when taking."""

    def __init__(self) -> None:
        self._blocks: deque[Block] = deque()
        self.available = 0  # samples

    def push(self, block: Block) -> None:
        """Append float32 ``(C, n)``; the caller must not write to it afterwards."""
        if block.shape[-1]:
            self._blocks.append(block)
            self.available += block.shape[-1]

    def take(self, samples: int) -> Block:
        """Remove and return the oldest ``samples`` samples, ``(C, samples)``.

        Raises:
            ValueError: fewer than that are available.
        """
        if not 0 < samples <= self.available:
            raise ValueError(f"cannot take {samples} samples of {self.available}")
        self.available -= samples
        taken: list[Block] = []
        while samples:
            block = self._blocks[0]
            if block.shape[-1] <= samples:
                taken.append(self._blocks.popleft())
                samples -= block.shape[-1]
            else:
                taken.append(block[:, :samples])
                self._blocks[0] = block[:, samples:]
                samples = 0
        return taken[0] if len(taken) == 1 else np.concatenate(taken, axis=1)


def joined(blocks: list[Block], channels: int) -> Block:
    """Concatenate blocks along time; ``(channels, 0)`` if there are none."""
    if not blocks:
        return np.zeros((channels, 0), np.float32)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
