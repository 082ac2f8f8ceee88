"""Cutting a signal into the windows that a codec encodes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jatsr_model.audio.blocks import Block
from jatsr_model.codecs.base import Codec, frames_of


class Windower:
    """Cuts a signal of many lanes into overlapping windows on the codec's hop grid.

    Both ends are extended the codec's way, so every window has the same shape and chunked encoding
    equals ``jatsr_model.codecs.encode`` of the whole signal.
    """

    def __init__(self, codec: Codec, lanes: int) -> None:
        self._codec = codec
        self._context = codec.encode_context * codec.hop
        self._core = (codec.window_frames - 2 * codec.encode_context) * codec.hop
        self._buffer = np.zeros((lanes, 0), np.float32)
        self._started = False
        self._samples = 0

    def push(self, block: Block) -> Iterator[Block]:
        """Add ``[lanes, n]`` samples; windows ``[lanes, window samples]`` that are complete."""
        self._samples += block.shape[-1]
        self._buffer = np.concatenate([self._buffer, block], axis=-1)
        if not self._started and self._buffer.shape[-1] >= self._context:
            self._start()
        yield from self._whole_windows()

    def flush(self) -> Iterator[tuple[Block, int]]:
        """The remaining windows, each with its number of valid frames."""
        hop = self._codec.hop
        frames = frames_of(self._samples, hop)
        missing = frames * hop - self._samples
        self._buffer = np.pad(self._buffer, ((0, 0), (0, missing)))
        if not self._started:
            self._start()
        tail = np.zeros((self._buffer.shape[0], self._context), np.float32)
        near = self._buffer[:, max(0, self._buffer.shape[-1] - self._context) :]
        tail[:, self._context - near.shape[-1] :] = near
        self._buffer = np.concatenate([self._buffer, self._codec.extend(tail, "end")], axis=-1)
        for window in self._whole_windows():
            yield window, self._core // hop
        left = self._buffer.shape[-1] - 2 * self._context
        if left > 0:
            size = self._core + 2 * self._context
            yield np.pad(self._buffer, ((0, 0), (0, size - self._buffer.shape[-1]))), left // hop

    def _start(self) -> None:
        head = np.zeros((self._buffer.shape[0], self._context), np.float32)
        near = self._buffer[:, : self._context]
        head[:, : near.shape[-1]] = near
        self._buffer = np.concatenate([self._codec.extend(head, "start"), self._buffer], axis=-1)
        self._started = True

    def _whole_windows(self) -> Iterator[Block]:
        size = self._core + 2 * self._context
        start = 0
        while self._started and self._buffer.shape[-1] - start >= size:
            yield self._buffer[:, start : start + size]
            start += self._core
        self._buffer = self._buffer[:, start:]
