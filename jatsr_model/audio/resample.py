"""Streaming sample-rate conversion with exact lengths."""

from __future__ import annotations

import numpy as np
import soxr

from jatsr_model.audio.blocks import Block, joined

QUALITY = "VHQ"  # measured as cheap as HQ


def output_length(samples: int, in_rate: int, out_rate: int) -> int:
    """Samples of ``samples`` samples after conversion, halves rounded up."""
    return (2 * samples * out_rate + in_rate) // (2 * in_rate)


class Resampler:
    """Linear-phase, delay-compensated band-limited interpolation (soxr) of a stream.

    Sample ``k`` of the output is the signal at time ``k / out_rate``; before and after the stream
    the signal counts as zero. The output does not depend on how the input is cut.

    Args:
        in_rate: Hz.
        out_rate: Hz; equal rates pass the samples through untouched.
        channels: C.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        self.in_rate, self.out_rate, self.channels = in_rate, out_rate, channels
        self._stream = (
            None
            if in_rate == out_rate
            else soxr.ResampleStream(in_rate, out_rate, channels, "float32", QUALITY)
        )
        self._pushed = 0
        self._emitted = 0

    def push(self, block: Block) -> Block:
        """Feed float32 ``(C, n)``; returns what is ready, ``(C, m)`` with ``m >= 0``."""
        self._pushed += block.shape[1]
        return self._convert(block, last=False)

    def flush(self, total: int | None = None) -> Block:
        """End of the stream: the rest of the output, ``(C, m)``.

        Args:
            total: exact number of output samples of the whole stream; default: the input's
                number times the ratio, halves rounded up.

        Raises:
            ValueError: more than ``total`` samples have been returned already.
        """
        if total is None:
            total = output_length(self._pushed, self.in_rate, self.out_rate)
        missing = total - self._emitted
        if missing < 0:
            raise ValueError(f"{self._emitted} samples were returned, more than {total} asked for")
        # soxr stops at the last input sample; zeros after it give the true values up to `total`.
        needed = -(-(total + 2) * self.in_rate // self.out_rate) - self._pushed
        tail = np.zeros((self.channels, max(1, needed)), np.float32)
        rest = joined([self._convert(tail, last=True)], self.channels)
        if rest.shape[1] < missing:
            raise ValueError(f"the resampler returned {rest.shape[1]} of {missing} samples")
        return rest[:, :missing]

    def _convert(self, block: Block, *, last: bool) -> Block:
        if self._stream is None:
            converted = block
        else:
            frames = np.ascontiguousarray(block.T)
            converted = self._stream.resample_chunk(frames, last=last).T
        if not last:
            self._emitted += converted.shape[1]
        return converted
