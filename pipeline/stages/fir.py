"""A streaming FIR filter with the response of an IIR filter run forwards and backwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from jatsr_model.audio.blocks import Block, Fifo, joined

_TAIL = 1e-6  # sum of the absolute taps left out; bounds the error for full-scale input
_MIN_FFT = 1 << 14
_MAX_GRID = 1 << 22


def zero_phase_taps(sos: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half of the symmetric FIR whose response is |H(f)|^2.

    Args:
        sos: second-order sections of H.

    Returns:
        float64 ``(K + 1,)``: taps 0..K (tap -k equals tap k). What is left out beyond K sums to
        less than 1e-6 in absolute value.
    """
    grid = 1 << 15
    while grid <= _MAX_GRID:
        response = fft.rfft(sos[:, :3], grid) / fft.rfft(sos[:, 3:], grid)
        taps = fft.irfft(np.prod(np.abs(response) ** 2, axis=0))[: grid // 2]
        tail = 2 * np.cumsum(np.abs(taps[::-1]))[::-1]
        length = int(np.argmax(tail < _TAIL)) if tail[-1] < _TAIL else grid
        if length <= grid // 4:  # otherwise the taps alias in time: a finer grid
            return np.asarray(taps[:length], np.float64)
        grid *= 2
    raise ValueError("the filter rings for more than 10 s")


class ZeroPhaseFir:
    """Streaming symmetric FIR by overlap-save FFT in blocks of a fixed size.

    Args:
        taps: float64 ``(K + 1,)``, taps 0..K.
        channels: C.
    """

    def __init__(self, taps: NDArray[np.float64], channels: int) -> None:
        self._reach = len(taps) - 1
        self._size = _MIN_FFT
        while self._size < 6 * self._reach:
            self._size *= 2
        kernel = np.zeros(self._size)
        kernel[: self._reach + 1] = taps
        if self._reach:
            kernel[-self._reach :] = taps[:0:-1]
        # A symmetric kernel has a real spectrum.
        self._response = fft.rfft(kernel).real.astype(np.float32)
        self._fifo = Fifo()
        self._fifo.push(np.zeros((channels, self._reach), np.float32))
        self._context = np.zeros((channels, 0), np.float32)
        self._channels = channels
        self._pending = 0  # samples pushed and not yet returned

    def push(self, block: Block) -> Block:
        """Feed float32 ``(C, n)``; returns what is ready, ``(C, m)``."""
        self._pending += block.shape[1]
        self._fifo.push(block)
        done = []
        while self._context.shape[1] + self._fifo.available >= self._size:
            fresh = self._fifo.take(self._size - self._context.shape[1])
            done.append(self._filter(np.concatenate([self._context, fresh], axis=1)))
        filtered = joined(done, self._channels)
        self._pending -= filtered.shape[1]
        return filtered

    def flush(self) -> Block:
        """The rest; after its end the signal counts as zero."""
        wanted = self._pending
        done: list[Block] = []
        while sum(part.shape[1] for part in done) < wanted:
            done.append(self.push(np.zeros((self._channels, self._size), np.float32)))
        return joined(done, self._channels)[:, :wanted]

    def _filter(self, segment: Block) -> Block:
        reach = self._reach
        self._context = segment[:, self._size - 2 * reach :]
        spectrum = fft.rfft(segment)
        spectrum *= self._response
        filtered: Block = fft.irfft(spectrum, self._size)
        return filtered[:, reach : self._size - reach]
