"""Streaming magnitudes of the short-time Fourier transform, librosa's defaults."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shards.envelope import BINS, FFT_SIZE, HOP

# Every transform call has this many frames, always the same frames of the signal: the rounding
# of a frame may depend on its place in the call. 32 frames also stay inside a usual L2 cache.
BATCH_FRAMES = 32
_BATCH_SAMPLES = (BATCH_FRAMES - 1) * HOP + FFT_SIZE
_PAD = FFT_SIZE // 2


class MagnitudeStft:
    """Magnitudes of parallel signals, frame by frame, the same bits for every block size.

    Frame ``t`` is centred on sample ``HOP * t``; the signal is zero before its start and after
    its end; a signal of ``n > 0`` samples has ``n // HOP + 1`` frames, an empty one none. The
    window is the periodic Hann window. An instance serves one signal.

    Args:
        streams: number of signals.
    """

    def __init__(self, streams: int) -> None:
        self._waiting = np.zeros((streams, _PAD), np.float32)
        self._samples = 0
        self._next = 0
        phase = 2.0 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE
        self._window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
        self._windowed = np.empty((BATCH_FRAMES, FFT_SIZE), np.float32)

    @property
    def samples(self) -> int:
        """Samples taken so far."""
        return self._samples

    def push(self, block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Take samples; the frames that became complete come out in batches.

        Args:
            block: float32 ``[streams, n]``, any ``n``.

        Yields:
            float32 ``[streams, t, BINS]``, consecutive frames, each array the caller's own.
        """
        self._waiting = np.concatenate([self._waiting, block], axis=1)
        self._samples += block.shape[1]
        return self._drain()

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """The remaining frames, after the last sample was pushed; as ``push``."""
        yield from self._drain()
        missing = self._samples // HOP + 1 - self._next if self._samples else 0
        while missing > 0:
            padded = np.zeros((len(self._waiting), _BATCH_SAMPLES), np.float32)
            found = self._waiting[:, :_BATCH_SAMPLES]
            padded[:, : found.shape[1]] = found
            yield self._transform(padded)[:, :missing]
            self._advance()
            missing -= BATCH_FRAMES

    def _drain(self) -> Iterator[NDArray[np.float32]]:
        while self._waiting.shape[1] >= _BATCH_SAMPLES:
            batch = self._waiting[:, :_BATCH_SAMPLES]
            self._advance()
            yield self._transform(batch)

    def _advance(self) -> None:
        self._waiting = self._waiting[:, BATCH_FRAMES * HOP :]
        self._next += BATCH_FRAMES

    def _transform(self, signals: NDArray[np.float32]) -> NDArray[np.float32]:
        """``[streams, _BATCH_SAMPLES]`` -> ``[streams, BATCH_FRAMES, BINS]``.

        The magnitude is built from real operations: they work in place, and unlike a library's
        complex ``abs`` they round alike on every processor.
        """
        import scipy.fft  # late: importing it takes longer than most commands

        magnitudes = np.empty((len(signals), BATCH_FRAMES, BINS), np.float32)
        for signal, out in zip(signals, magnitudes, strict=True):
            frames = sliding_window_view(signal, FFT_SIZE)[::HOP]
            np.multiply(frames, self._window, out=self._windowed)
            parts = scipy.fft.rfft(self._windowed, axis=-1).view(np.float32)
            np.multiply(parts, parts, out=parts)
            np.add(parts[:, 0::2], parts[:, 1::2], out=out)
            np.sqrt(out, out=out)
        return magnitudes
