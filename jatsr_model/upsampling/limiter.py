"""Peaks above full scale, lowered without distortion; everything else passes untouched."""

from __future__ import annotations

import numpy as np

from jatsr_model.audio.blocks import Block, Fifo, joined

_SECONDS = 0.005  # before and after a peak in which the gain goes down and comes back
_BLOCK = 1 << 14


class Limiter:
    """A streaming look-ahead limiter; the output does not depend on how the input is cut.

    All channels share one gain, so the stereo image stays. The gain is exactly 1 farther than 10 ms
    from any peak above full scale.

    Args:
        rate: Hz.
        channels: C.
        top: the highest sample allowed; the lowest is -1.
    """

    def __init__(self, rate: int, channels: int, top: float = 1.0) -> None:
        self._reach = max(round(_SECONDS * rate), 1)
        window = np.hanning(2 * self._reach + 3)[1:-1]
        self._window = window / window.sum()
        self._top = np.float32(top)
        self._channels = channels
        self._context = np.zeros((channels, 2 * self._reach), np.float32)
        self._fifo = Fifo()
        self._waiting = 0
        self.limited = 0  # samples (per channel) whose gain was not 1
        self.lowest_gain = 1.0

    def push(self, block: Block) -> Block:
        """Feed float32 ``(C, n)``; returns what is ready, ``(C, m)``."""
        self._waiting += block.shape[1]
        ready = self._take(block)
        self._waiting -= ready.shape[1]
        return ready

    def flush(self) -> Block:
        """The rest of the output."""
        silence = np.zeros((self._channels, _BLOCK + 4 * self._reach), np.float32)
        rest = self._take(np.concatenate([silence[:, : 2 * self._reach], silence], axis=1))
        return rest[:, : self._waiting]

    def _take(self, block: Block) -> Block:
        self._fifo.push(block)
        done = []
        span = _BLOCK + 4 * self._reach
        while self._context.shape[1] + self._fifo.available >= span:
            fresh = self._fifo.take(span - self._context.shape[1])
            signal = np.concatenate([self._context, fresh], axis=1)
            self._context = signal[:, _BLOCK:]
            done.append(self._limit(signal))
        return joined(done, self._channels)

    def _limit(self, signal: Block) -> Block:
        """The block between two stretches of context, each twice the reach."""
        reach = self._reach
        middle = signal[:, 2 * reach : 2 * reach + _BLOCK]
        excess = np.maximum(signal / self._top, -signal).max(axis=0)
        if excess.max() <= 1.0:
            return middle
        from scipy.ndimage import maximum_filter1d  # loads slowly
        from scipy.signal import fftconvolve

        # By how much to lower each sample so that it fits, the most of it that is needed within
        # reach, and the average of that: never less than what the sample itself needs.
        cut = 1 - 1 / np.maximum(excess.astype(np.float64), 1.0)
        widest = maximum_filter1d(cut, 2 * reach + 1, mode="constant")[reach:-reach]
        gain = 1 - fftconvolve(widest, self._window, mode="valid")
        near = maximum_filter1d(widest > 0, 2 * reach + 1, mode="constant")[reach:-reach]
        gain = np.where(near, gain, 1.0)
        self.limited += int(np.count_nonzero(near))
        self.lowest_gain = min(self.lowest_gain, float(gain.min()))
        limited: Block = np.clip((middle * gain).astype(np.float32), -1, self._top)
        return limited
