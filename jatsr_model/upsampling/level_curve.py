"""How loud a signal gets at each frequency: percentiles over time, in constant memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, Fifo

_FRAMES_AT_ONCE = 16  # always the same frames in one transform, so that cutting does not matter
_LOWEST_DB, _STEPS = -200, 256  # levels are counted in steps of 1 dB
_CLASS_DB, _CLASSES, _QUIETEST_DB = 10, 14, -120  # frames are counted by their own level
_WITHIN_CLASSES = 4  # the loudest class that occurs and the next ones: within 30 to 40 dB


class LevelCurve:
    """Counts the levels of every bin of a short-time Fourier transform.

    Levels are in dB such that white noise of variance 1 has 0 dB in every bin. The window is the
    Hann window squared: 20 bins away from a tone its leakage is below -120 dB.

    Args:
        rate: Hz.
        channels: whose powers are averaged.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self.size = 1 << max(8, round(math.log2(rate / 10.8)))  # bins of about 10.8 Hz
        self.bins = self.size // 2 + 1
        self._hop = self.size // 2
        window = np.hanning(self.size + 1)[:-1] ** 2
        self._window = window / np.sqrt(np.sum(window**2) * channels)
        self._counts = np.zeros((_CLASSES, self.bins, _STEPS), np.uint32)
        self._fifo = Fifo()
        self._kept = np.zeros((channels, 0), np.float32)
        self._frames = 0

    def push(self, block: Block) -> None:
        """Take float32 ``(C, n)``."""
        self._fifo.push(block)
        while self._kept.shape[1] + self._fifo.available >= self._span:
            fresh = self._fifo.take(self._span - self._kept.shape[1])
            signal = np.concatenate([self._kept, fresh], axis=1)
            self._kept = signal[:, _FRAMES_AT_ONCE * self._hop :]
            self._count(signal, _FRAMES_AT_ONCE)

    def finish(self) -> None:
        """Take what is left; call it once, after the last block."""
        rest = self._fifo.take(self._fifo.available) if self._fifo.available else self._kept[:, :0]
        signal = np.concatenate([self._kept, rest], axis=1)
        if not self._frames and signal.shape[1] < self.size:  # one frame, the sound in its middle
            early = (self.size - signal.shape[1]) // 2
            signal = np.pad(signal, ((0, 0), (early, self.size - early - signal.shape[1])))
        frames = max((signal.shape[1] - self.size) // self._hop + 1, 0)
        missing = max(self._span - signal.shape[1], 0)
        self._count(np.pad(signal, ((0, 0), (0, missing))), frames)

    @property
    def is_silent(self) -> bool:
        """Whether no frame held anything."""
        return not bool(self._counts.any())

    def percentile(self, share: float) -> NDArray[np.float64]:
        """The level in dB that each bin stays below for a share of the time, ``[bins]``.

        Frames more than 40 dB below the loudest do not count.
        """
        loudest = int(np.flatnonzero(self._counts.any(axis=(1, 2))).max(initial=0))
        first = max(loudest - _WITHIN_CLASSES + 1, 0)
        cumulated = np.cumsum(self._counts[first : loudest + 1].sum(axis=0), axis=1)
        wanted = share * cumulated[:, -1:]
        levels = np.argmax(cumulated >= wanted, axis=1)
        return np.asarray(_LOWEST_DB + levels, np.float64)

    @property
    def magnitudes(self) -> NDArray[np.float64]:
        """Of each bin over all frames ``[bins]``, up to a factor and the steps of the levels."""
        amplitudes = 10.0 ** ((_LOWEST_DB + np.arange(_STEPS)) / 20)
        return np.asarray(self._counts.sum(axis=0) @ amplitudes, np.float64)

    @property
    def _span(self) -> int:
        return (_FRAMES_AT_ONCE - 1) * self._hop + self.size

    def _count(self, signal: Block, frames: int) -> None:
        import scipy.fft  # late: importing it takes longer than most commands

        windows = sliding_window_view(signal[:, : self._span], self.size, axis=1)[:, :: self._hop]
        power = np.square(np.abs(scipy.fft.rfft(windows * self._window, axis=-1))).sum(axis=0)
        power = power[:frames]
        means = power.mean(axis=1)
        with np.errstate(divide="ignore"):
            levels = np.clip(10 * np.log10(power) - _LOWEST_DB, 0, _STEPS - 1).astype(np.intp)
            classes = (10 * np.log10(means) - _QUIETEST_DB) / _CLASS_DB
        classes = np.clip(classes, 0, _CLASSES - 1).astype(np.intp)
        every = np.arange(self.bins)
        for mean, which, level in zip(means, classes, levels, strict=True):
            if mean > 0:
                self._counts[which, every, level] += 1
        self._frames += frames
