"""By how far a spectrum has to be moved up to resemble itself: where its partials go on.

Partials of a tone are multiples of its fundamental. So a band that is moved by a multiple of it has
its partials where those of the tone belong, and the spectrum resembles itself most at such
distances. Tones of a chord seldom have one in common. The distance that suits most of the spectrum
is therefore looked for first; then, in what is left when the partials that it explains are taken
out, another one, by which the rest is moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SIZE = 16_384  # samples of a spectrum: bins of 2.7 Hz at 44.1 kHz
_NEAREST, _FARTHEST = 0.35, 0.75  # distances, as shares of the band
_LEAST = 345.0  # Hz; what repeats in smaller steps sounds like a comb
_SMOOTH = 350.0  # Hz over which the spectrum is made white
_PARTIAL = 2.0  # of the mean nearby: what is louder, and has its like, is a partial
_LOBE = 4  # bins to either side of a partial that belong to it
_LIKE = 0.3  # of 1: how much what is left must resemble itself to be moved otherwise
_FAINT = 1e-7
_WINDOW = np.hanning(SIZE).astype(np.float32)

Spectra = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Move:
    """What is moved up by one distance.

    Attributes:
        hertz: how far.
        bins: bool, of every bin of a spectrum of ``SIZE`` samples, from 0 Hz to the end of the
            band: whether it is moved so far. Each is moved by one of the distances.
    """

    hertz: float
    bins: NDArray[np.bool_]


def movable(end: float) -> bool:
    """Whether a band up to ``end``, Hz, is wide enough to be moved."""
    return _FARTHEST * end > _LEAST


def moves(wave: NDArray[np.float32], end: float, rate: int) -> tuple[Move, ...]:
    """By how far to move which part of a band, to go on above it; one or two.

    Args:
        wave: ``[n]``, a mono signal.
        end: Hz, of the band; it must be ``movable``.
        rate: Hz.
    """
    width = rate / SIZE
    shortest, longest = int(max(_NEAREST * end, _LEAST) / width), int(_FARTHEST * end / width)
    white = _white(_spectra(wave)[:, : int(end / width)], round(_SMOOTH / width))
    first, _ = _nearest(white, shortest, longest)
    mine = _partials(white, round(first))
    rest = white * ~mine
    second, likeness = _nearest(rest, shortest, longest)
    others = _partials(rest, round(second)) & ~mine
    if likeness < _LIKE or not others.any():
        return (Move(first * width, np.ones(white.shape[1], bool)),)
    return Move(first * width, ~others), Move(second * width, others)


def _spectra(wave: NDArray[np.float32]) -> Spectra:
    """Magnitudes of half-overlapping spectra, ``[frames, bins]``."""
    import scipy.fft  # late: importing it takes longer than most commands

    padded = np.pad(wave, (0, max(SIZE - len(wave), 0)))
    frames = sliding_window_view(padded, SIZE)[:: SIZE // 2] * _WINDOW
    magnitudes: Spectra = np.abs(scipy.fft.rfft(frames, axis=-1))
    return magnitudes


def _white(spectra: Spectra, bins: int) -> Spectra:
    """Against the mean of so many bins around each, less 1."""
    padded = np.pad(spectra, ((0, 0), (bins // 2 + 1, bins - bins // 2 - 1)), mode="edge")
    sums = np.cumsum(padded, axis=1, dtype=np.float64)
    means = (sums[:, bins:] - sums[:, :-bins]) / bins
    white: Spectra = (spectra / (means + _FAINT) - 1).astype(np.float32)
    return white


def _nearest(white: Spectra, shortest: int, longest: int) -> tuple[float, float]:
    """The distance of greatest likeness, in bins and parts of them, and the likeness there."""
    import scipy.fft

    bins = white.shape[1]
    size = scipy.fft.next_fast_len(2 * bins, real=True)
    spectrum = scipy.fft.rfft(white, size, axis=-1)
    products = scipy.fft.irfft(np.square(np.abs(spectrum)).sum(0), size)
    steps = np.arange(shortest - 1, longest + 2)
    powers = np.cumsum(np.square(white).sum(0), dtype=np.float64)
    below, above = powers[bins - 1 - steps], powers[-1] - powers[steps - 1]
    likeness = products[steps] / (np.sqrt(below * above) + _FAINT)
    best = 1 + int(np.argmax(likeness[1:-1]))
    before, there, after = likeness[best - 1 : best + 2]
    bend = before - 2 * there + after
    summit = 0.5 * (before - after) / bend if bend < 0 else 0.0  # of a parabola through the three
    return float(steps[best] + np.clip(summit, -0.5, 0.5)), float(there)


def _partials(white: Spectra, step: int) -> NDArray[np.bool_]:
    """Bins that are loud together with those ``step`` bins from them, and their neighbours."""
    loud = white.clip(min=0)
    both = np.sqrt(loud[:, step:] * loud[:, :-step]).mean(0) > _PARTIAL
    found = np.zeros(white.shape[1])
    found[step:] += both
    found[:-step] += both
    near: NDArray[np.bool_] = np.convolve(found, np.ones(2 * _LOBE + 1), "same") > 0.5
    return near
