"""Musical key from the pitches of spectral peaks, in one pass and constant memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SIZE = 16384  # samples per transform: 2.7 Hz per bin at 44.1 kHz tells low semitones apart
_LOWEST, _HIGHEST = 65.0, 1000.0  # Hz; above, partials outnumber fundamentals
_PEAK_FLOOR = 0.03  # of the highest peak of the window
_SILENCE = 1e-3  # highest peak of a window that is not heard (full scale is _SIZE / 4)
_CELLS = 10  # histogram cells per semitone, so that the tuning can be found
_MIN_CONTRAST = 0.3  # standard deviation over mean of the twelve pitch classes; noise is flat
_MIN_MATCH, _MIN_MARGIN = 0.6, 0.02
_NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
# Krumhansl and Kessler's probe-tone ratings (Krumhansl 1990, p. 30), tonic first.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True)
class Key:
    """For example ``A minor``, None where no key stands out, and how sure that is (0 to 1)."""

    name: str | None
    confidence: float


class KeyFinder:
    """Peaks of long transforms, gathered by pitch, compared with the profiles of 24 keys.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._histogram = np.zeros(12 * _CELLS)
        self._step = sample_rate / _SIZE
        self._bins = slice(int(_LOWEST / self._step), int(_HIGHEST / self._step) + 1)
        self._window = np.hanning(_SIZE + 1)[:-1].astype(np.float32)

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take mono samples, float32 ``[n]``."""
        self._waiting = np.concatenate([self._waiting, samples])
        while len(self._waiting) >= _SIZE:
            self._gather(self._waiting[:_SIZE])
            self._waiting = self._waiting[_SIZE:]

    def result(self) -> Key:
        """The key of all samples pushed; a rest shorter than a transform is not counted."""
        total = self._histogram.sum()
        if not total > 0.0:
            return Key(None, 0.0)
        classes = self._pitch_classes() / total
        contrast = float(classes.std() / classes.mean())
        matches = np.array(
            [
                np.corrcoef(classes, np.roll(profile, tonic))[0, 1]
                for profile in (_MAJOR, _MINOR)
                for tonic in range(12)
            ]
        )
        second, best = np.sort(matches)[-2:]
        winner = int(matches.argmax())
        clear = contrast >= _MIN_CONTRAST and best >= _MIN_MATCH and best - second >= _MIN_MARGIN
        name = f"{_NAMES[winner % 12]} {'major' if winner < 12 else 'minor'}"
        confidence = float(np.clip(best, 0.0, 1.0) * min(contrast / (2 * _MIN_CONTRAST), 1.0))
        return Key(name if clear else None, confidence)

    def _gather(self, samples: NDArray[np.float32]) -> None:
        import scipy.fft

        spectrum = np.abs(scipy.fft.rfft(samples * self._window)[self._bins])
        inner, left, right = spectrum[1:-1], spectrum[:-2], spectrum[2:]
        floor = max(_PEAK_FLOOR * float(spectrum.max()), _SILENCE)
        (peaks,) = np.nonzero((inner > left) & (inner >= right) & (inner > floor))
        if not len(peaks):
            return
        a, b, c = (np.log(part[peaks]) for part in (left + 1e-9, inner, right + 1e-9))
        # Parabola through the logarithms: the peak lies between bins.
        offset = 0.5 * (a - c) / np.minimum(a - 2.0 * b + c, -1e-9)
        hertz = (self._bins.start + 1 + peaks + offset) * self._step
        pitch = 12.0 * np.log2(hertz / 440.0) + 69.0  # MIDI numbers: C is 0 modulo 12
        cells = np.rint(pitch * _CELLS).astype(np.int64) % len(self._histogram)
        # Inside a window a peak counts by its height; the window counts by the root of its own,
        # so that a loud passage does not outvote the rest of the piece.
        np.add.at(self._histogram, cells, inner[peaks] / np.sqrt(spectrum.max()))

    def _pitch_classes(self) -> NDArray[np.float64]:
        """Twelve sums around the semitones of the piece's own tuning."""
        turns = np.arange(len(self._histogram)) / _CELLS
        centre = np.angle(np.sum(self._histogram * np.exp(2j * np.pi * turns))) / (2 * np.pi)
        nearest = np.rint(turns - centre).astype(np.int64) % 12
        classes = np.bincount(nearest, weights=self._histogram, minlength=12)
        return classes.astype(np.float64)
