"""Tempo from the rhythm of spectral change, in one pass and constant memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shards.envelope import EDGES

_WINDOW = 1024  # frames whose autocorrelation is taken at once, about 12 s
_SHORTEST = 344  # frames, about 4 s: a shorter rest has too few beats to count
_FASTEST, _SLOWEST = 210.0, 45.0  # beats per minute
_PRIOR_BPM, _PRIOR_OCTAVES = 112.0, 0.9  # where most music lies; decides between octaves
_MULTIPLES = 4  # a beat must come back after 1, 2, 3 and 4 periods
_LOUDNESS_GAIN = 100.0  # in log(1 + gain * magnitude): compresses what can be heard
_MIN_CHANGE = 0.02  # mean rise per band and frame; less is a steady sound
_MIN_CONFIDENCE = 0.15


@dataclass(frozen=True)
class Tempo:
    """Beats per minute, None where no steady beat was found, and how sure that is (0 to 1)."""

    bpm: float | None
    confidence: float


class TempoTracker:
    """Spectral flux, its autocorrelation summed over windows, and a prior over tempos.

    Args:
        frame_rate: frames per second of the magnitudes.
    """

    def __init__(self, frame_rate: float) -> None:
        self._rate = frame_rate
        self._lags = int(np.ceil(_MULTIPLES * 60.0 * frame_rate / _SLOWEST)) + 2
        self._products = np.zeros(self._lags)
        self._pairs = np.zeros(self._lags)
        self._change = np.zeros(0, np.float32)
        self._previous: NDArray[np.float32] | None = None
        self._risen, self._frames = 0.0, 0

    def push(self, magnitudes: NDArray[np.float32]) -> None:
        """Take consecutive frames, float32 ``[t, BINS]``."""
        levels = np.add.reduceat(magnitudes, EDGES[:-1], axis=1)
        levels *= (_LOUDNESS_GAIN / np.diff(EDGES)).astype(np.float32)
        np.log1p(levels, out=levels)
        first = levels[:1] if self._previous is None else self._previous
        rise = np.diff(levels, axis=0, prepend=first)
        flux = np.maximum(rise, 0.0, out=rise).mean(axis=1)
        self._previous = levels[-1:].copy()
        self._risen += float(flux.sum(dtype=np.float64))
        self._frames += len(flux)
        self._change = np.concatenate([self._change, flux])
        while len(self._change) >= _WINDOW:
            self._correlate(self._change[:_WINDOW])
            self._change = self._change[_WINDOW:]

    def result(self) -> Tempo:
        """The tempo of all frames pushed."""
        if len(self._change) >= _SHORTEST:
            self._correlate(self._change)
            self._change = self._change[:0]
        if not self._pairs[0] or self._risen < _MIN_CHANGE * self._frames:
            return Tempo(None, 0.0)
        similarity = self._products / np.maximum(self._pairs, 1.0)
        similarity /= max(similarity[0], np.finfo(np.float64).tiny)
        period = self._best_period(similarity)
        confidence = float(np.clip(np.interp(period, np.arange(self._lags), similarity), 0, 1))
        bpm = 60.0 * self._rate / self._refine(similarity, period)
        return Tempo(bpm if confidence >= _MIN_CONFIDENCE else None, confidence)

    def _correlate(self, change: NDArray[np.float32]) -> None:
        import scipy.fft

        size = len(change)
        smooth = np.convolve(change - change.mean(), [0.25, 0.5, 0.25], mode="same")
        power = np.abs(scipy.fft.rfft(smooth.astype(np.float64), 2 * size)) ** 2
        products = scipy.fft.irfft(power)[: min(self._lags, size)]
        # A lag that few pairs of the window span is left out rather than trusted.
        trusted = min(len(products), size * 3 // 4)
        self._products[:trusted] += products[:trusted]
        self._pairs[:trusted] += size - np.arange(trusted)

    def _best_period(self, similarity: NDArray[np.float64]) -> float:
        shortest, longest = (60.0 * self._rate / bpm for bpm in (_FASTEST, _SLOWEST))
        periods = np.arange(shortest, longest, 0.25)
        octaves = np.log2(60.0 * self._rate / periods / _PRIOR_BPM)
        prior = np.exp(-0.5 * (octaves / _PRIOR_OCTAVES) ** 2)
        lags = np.arange(self._lags)
        combs = [np.interp(k * periods, lags, similarity) for k in range(1, _MULTIPLES + 1)]
        return float(periods[np.argmax(np.mean(combs, axis=0) * prior)])

    def _refine(self, similarity: NDArray[np.float64], period: float) -> float:
        """The peak near the highest multiple of the period is the sharpest ruler."""
        for multiple in range(_MULTIPLES, 0, -1):
            near = round(multiple * period)
            reach = max(2, round(0.03 * near))
            if near + reach + 1 >= np.count_nonzero(self._pairs):
                continue
            low = near - reach
            peak = low + int(np.argmax(similarity[low : near + reach + 1]))
            left, middle, right = similarity[peak - 1 : peak + 2]
            curve = left - 2.0 * middle + right
            if curve < 0.0 and middle >= max(left, right):
                return float(peak + 0.5 * (left - right) / curve) / multiple
        return period
