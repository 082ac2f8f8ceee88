"""Up to which frequency a signal has content: where its spectrum ends as if cut off.

A roll-off (98.5 % of the magnitude) says how bright a sound is; whether it was band-limited shows
in the shape of its spectrum. Music falls smoothly, by 6 to 48 dB per octave, until noise covers
it. A low-pass filter, a lower sample rate and a lossy codec leave an edge: a fall steeper than
80 dB per octave, from a level that held below it to one that holds for everything above.

Levels are those that each frequency reaches in the loudest 5 % of the time, and the median of
neighbouring frequencies: clicks, pilot tones and single partials neither hide an edge nor make one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block
from jatsr_model.upsampling.level_curve import LevelCurve
from shards.envelope import rolloff

LOWEST_HZ = 1000.0  # no edge is looked for below
HIGHEST_HZ = 22_050.0  # of what models are told of; above it is noise at most
FULL_SHARE = 0.9  # of half the sample rate: an edge above it is that of a converter

_TIME_SHARE = 0.95
_PER_OCTAVE = 48  # levels per octave
_REACH = 3  # levels on both sides between which the fall is measured: 1/8 octave
_STEEP_DB = 10.0  # over that distance
_PLATEAU = 12  # levels below an edge that it is compared with: 1/4 octave
_PLATEAU_SHARE = 0.25  # of them may be lower than what the edge falls from
_DROP_DB = 15.0  # from there to the loudest of what is above
_LASTING = 5  # levels wide is content above an edge that counts
_RANGE_DB = 95.0  # what is further below the highest level is nothing
_MAIN_EDGE = 0.6  # of the largest drop: the lowest edge with so much is the one
_END_DB = 20.0  # content ends where the level is so far below the top of the steepest fall
_SOLID_DB = 3.0  # and is unharmed up to where it is so far below what the plateau promised
_SMOOTH_BINS = 9

Verdict = Literal["limited", "full", "silent"]


@dataclass(frozen=True)
class Bandwidth:
    """What was found.

    Attributes:
        hertz: where the content ends; half the sample rate where no edge was found.
        solid_hertz: up to where it is unharmed: the edge begins to fall here.
        drop_db: how far the level falls at the edge; 0 without one.
        rate: Hz, sample rate of the signal.
        rolloff_hertz: below it lies 98.5 % of the magnitude up to 22.05 kHz: how bright it is.
        silent: there was nothing to judge.
    """

    hertz: float
    solid_hertz: float
    drop_db: float
    rate: int
    rolloff_hertz: float = 0.0
    silent: bool = False

    @property
    def verdict(self) -> Verdict:
        """``limited``: the content ends below 90 % of what the sample rate can hold."""
        if self.silent:
            return "silent"
        return "limited" if self.is_below(self.rate) else "full"

    def is_below(self, rate: int) -> bool:
        """Whether a signal of sample rate ``rate`` could hold noticeably more."""
        return not self.silent and self.hertz < FULL_SHARE * rate / 2


class BandwidthMeter:
    """Measures a stream; the result does not depend on how it is cut.

    Args:
        rate: Hz.
        channels: C; the signal ends where the last of its channels does.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._curve = LevelCurve(rate, channels)

    def push(self, block: Block) -> None:
        """Measure float32 ``(C, n)``."""
        self._curve.push(block)

    def result(self) -> Bandwidth:
        """What was found; call it once, at the end."""
        self._curve.finish()
        rate = self._curve.rate
        if self._curve.is_silent:
            return Bandwidth(rate / 2, rate / 2, 0.0, rate, silent=True)
        found = find_edge(self._curve.percentile(_TIME_SHARE), rate)
        heard = min(rate / 2, HIGHEST_HZ)
        bins = self._curve.magnitudes[: round(heard / rate * self._curve.size) + 1]
        return replace(found, rolloff_hertz=rolloff(bins) * heard)


def find_edge(curve: NDArray[np.float64], rate: int) -> Bandwidth:
    """Look for an edge in a spectrum.

    Args:
        curve: level in dB at equally spaced frequencies from 0 to half the sample rate.
        rate: Hz.
    """
    nyquist = rate / 2
    grid, levels = _levels(curve, nyquist)
    edges = [edge for edge in _edges(levels) if edge.drop_db >= _DROP_DB]
    if not edges:
        return Bandwidth(nyquist, nyquist, 0.0, rate)
    enough = _MAIN_EDGE * max(edge.drop_db for edge in edges)
    edge = next(edge for edge in edges if edge.drop_db >= enough)
    near = _running_median(curve, _SMOOTH_BINS)
    hertz = np.arange(len(curve)) * nyquist / (len(curve) - 1)
    steepest = _steepest(_fall(levels), edge)
    top, bottom = levels[steepest - _REACH], levels[steepest + _REACH]
    held = near >= top - min(_END_DB, (top - bottom) / 2)
    end = _last(hertz, held, grid[steepest - _REACH], grid[steepest + _REACH])
    held = (
        near >= edge.expected(np.log2(np.maximum(hertz, 1.0) / grid[0]) * _PER_OCTAVE) - _SOLID_DB
    )
    solid = _last(hertz, held, grid[edge.start - _REACH - _PLATEAU // 2], end)
    return Bandwidth(end, solid, edge.drop_db, rate)


@dataclass(frozen=True)
class _Edge:
    """A steep stretch, by places of the grid of levels.

    Attributes:
        start: first place that is steep.
        stop: last one.
        before: level of the plateau below it.
        slope: by which the plateau falls per place; not positive.
        drop_db: from the plateau to what is above the edge.
    """

    start: int
    stop: int
    before: float
    slope: float
    drop_db: float

    def expected(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """The plateau's level, continued."""
        middle = self.start - _REACH - _PLATEAU / 2
        return self.before + self.slope * (place - middle)


def _edges(levels: NDArray[np.float64]) -> list[_Edge]:
    """Every stretch where the level falls steeply, lowest first."""
    steep = np.flatnonzero(_fall(levels) >= _STEEP_DB) + _REACH
    steep = steep[steep >= 2 * _PLATEAU + _REACH]
    runs = np.split(steep, np.flatnonzero(np.diff(steep) > 1) + 1)
    return [_edge(levels, int(run[0]), int(run[-1])) for run in runs if run.size]


def _edge(levels: NDArray[np.float64], start: int, stop: int) -> _Edge:
    upper = start - _REACH + 1
    plateau = levels[upper - _PLATEAU : upper]
    before = float(np.median(plateau))
    earlier = float(np.median(levels[upper - 2 * _PLATEAU : upper - _PLATEAU]))
    after = float(_running_median(levels, _LASTING)[stop + _REACH :].max())
    # The harmonics of a single voice are no plateau: between them there is next to nothing.
    drop = float(np.quantile(plateau, _PLATEAU_SHARE)) - after
    return _Edge(start, stop, before, min(before - earlier, 0.0) / _PLATEAU, drop)


def _fall(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the level falls around a place; item i is about place ``i + _REACH``."""
    return levels[: -2 * _REACH] - levels[2 * _REACH :]


def _steepest(fall: NDArray[np.float64], edge: _Edge) -> int:
    """The last peak of the fall that has half its size: tones below an edge end abruptly, too."""
    run = fall[edge.start - _REACH : edge.stop - _REACH + 1]
    peaks = [
        i
        for i, size in enumerate(run)
        if size >= max(run.max() / 2, run[max(i - _REACH, 0) : i + _REACH + 1].max())
    ]
    return edge.start + peaks[-1]


def _last(hertz: NDArray[np.float64], held: NDArray[np.bool_], low: float, high: float) -> float:
    """The highest frequency in a range at which a level is held; ``low`` if there is none."""
    found = hertz[held & (hertz >= low) & (hertz <= high)]
    return float(found[-1]) if found.size else float(low)


def _levels(
    curve: NDArray[np.float64], nyquist: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in equal steps of pitch, and the median level around each."""
    top, lowest = len(curve) - 1, LOWEST_HZ * 2 ** (-(2 * _PLATEAU + 2 * _REACH) / _PER_OCTAVE)
    count = max(int(np.log2(max(nyquist / lowest, 1)) * _PER_OCTAVE), 0)
    grid = nyquist * 2.0 ** (-np.arange(count, 0, -1) / _PER_OCTAVE)
    middles = grid / nyquist * top
    halves = np.maximum(middles * (2 ** (0.5 / _PER_OCTAVE) - 1), 2.0)
    found = np.array(
        [
            np.median(curve[int(np.ceil(a)) : int(b) + 1])
            for a, b in zip(middles - halves, middles + halves, strict=True)
        ]
    )
    return grid, np.maximum(found, found.max(initial=-np.inf) - _RANGE_DB)


def _running_median(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    padded = np.pad(values, width // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    return np.asarray(np.median(windows, axis=1))
