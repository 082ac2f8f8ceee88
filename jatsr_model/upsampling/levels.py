"""Loudness in and out of a network, and silence that stays silence."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block

SHORTEST_SECONDS = 0.02  # a shorter run of zeros is no silence but a quiet wave
FADE_SECONDS = 0.005  # at both ends of a silence, inside it


@dataclass(frozen=True)
class InputGain:
    """One gain for a whole signal, exactly a float32; ``undo`` reverts ``apply`` to rounding."""

    gain: float

    def apply(self, block: Block) -> Block:
        """The block as a network should hear it."""
        applied: Block = block * np.float32(self.gain)
        return applied

    def undo(self, block: Block) -> Block:
        """What a network made of it, at the level of the input."""
        undone: Block = block / np.float32(self.gain)
        return undone


def input_gain(
    rms_dbfs: float,
    peak: float,
    *,
    target_dbfs: float = -20.0,
    most_db: float = 40.0,
    ceiling: float = 1.0,
) -> InputGain:
    """The gain that brings a signal near the level a network was trained at.

    It is a continuous function of the level: ``target - rms`` within ``most_db`` of 0, and never
    more than the peak allows. So two signals of nearly the same level are treated nearly alike, and
    what is far too quiet is amplified by ``most_db`` and no more: noise stays noise.

    Args:
        rms_dbfs: root mean square, 0 dB = amplitude 1; ``-inf`` for silence.
        peak: largest absolute sample.
        target_dbfs: level to reach.
        most_db: largest change, up or down.
        ceiling: largest absolute sample after the gain.
    """
    wanted = 10 ** (min(max(target_dbfs - rms_dbfs, -most_db), most_db) / 20)
    limit = ceiling / peak if peak > 0 else math.inf
    return InputGain(float(np.float32(min(wanted, limit))))


Run = tuple[int, int]  # first sample, and the one after the last


@dataclass(frozen=True)
class Silence:
    """Where a signal is digital silence: zeros for at least 20 ms.

    Attributes:
        rate: Hz.
        samples: of the signal, per channel.
        channels: the runs of each channel, in order.
        common: the runs in which all channels are silent.
    """

    rate: int
    samples: int
    channels: tuple[tuple[Run, ...], ...]
    common: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        """Of silence in all channels."""
        return sum(stop - start for start, stop in self.common) / self.rate

    @property
    def leading_seconds(self) -> float:
        """Of it at the start."""
        first = self.common[0] if self.common else (0, 0)
        return first[1] / self.rate if first[0] == 0 else 0.0

    @property
    def trailing_seconds(self) -> float:
        """Of it at the end."""
        last = self.common[-1] if self.common else (0, 0)
        return (last[1] - last[0]) / self.rate if last[1] == self.samples else 0.0


class SilenceMeter:
    """Finds the silence of a stream, however it is cut.

    Args:
        rate: Hz.
        channels: C.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        least = math.ceil(SHORTEST_SECONDS * rate)
        self._channels = [_Runs(least) for _ in range(channels)]
        self._common = _Runs(least)

    def push(self, block: Block) -> None:
        """Take float32 ``(C, n)``."""
        zero = block == 0
        for runs, row in zip(self._channels, zero, strict=True):
            runs.push(row)
        self._common.push(zero.all(axis=0))

    def result(self) -> Silence:
        """What was found so far."""
        return Silence(
            rate=self._rate,
            samples=self._common.samples,
            channels=tuple(runs.all() for runs in self._channels),
            common=self._common.all(),
        )


class _Runs:
    """Runs of true values in a stream."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._closed: list[Run] = []
        self._open: int | None = None
        self.samples = 0

    def push(self, values: NDArray[np.bool_]) -> None:
        edges = np.flatnonzero(np.diff(values, prepend=self._open is not None))
        for edge in (edges + self.samples).tolist():
            if self._open is None:
                self._open = edge
            else:
                self._close(edge)
        self.samples += len(values)

    def all(self) -> tuple[Run, ...]:
        last = [] if self._open is None else [(self._open, self.samples)]
        return tuple(run for run in (*self._closed, *last) if run[1] - run[0] >= self._least)

    def _close(self, stop: int) -> None:
        if self._open is not None and stop - self._open >= self._least:
            self._closed.append((self._open, stop))
        self._open = None


class SilenceGate:
    """Makes zeros of an output where its input was digital silence, channel by channel.

    Inside the first and last 5 ms of a silence the output fades, except at the ends of the signal.

    Args:
        silence: of the input.
        rate: Hz, of the output.
        samples: of the output, per channel.
    """

    def __init__(self, silence: Silence, rate: int, samples: int) -> None:
        self._fade = max(round(FADE_SECONDS * rate), 1)
        self._samples = samples
        self._runs = [
            [_scaled(run, silence, rate, samples) for run in runs] for runs in silence.channels
        ]

    def apply(self, block: Block, start: int) -> Block:
        """Gate a block ``(C, n)`` that begins at sample ``start`` of the output."""
        gated = block
        for channel, runs in enumerate(self._runs):
            first = bisect_right(runs, start, key=lambda run: run[1])
            last = bisect_left(runs, start + block.shape[1], key=lambda run: run[0])
            for run in runs[first:last]:
                if gated is block:
                    gated = block.copy()
                self._close(gated[channel], start, run)
        return gated

    def _close(self, samples: NDArray[np.float32], start: int, run: Run) -> None:
        low, high = max(run[0], start), min(run[1], start + len(samples))
        place = np.arange(low, high)
        after = place - run[0] + 1 if run[0] > 0 else np.full_like(place, self._fade)
        before = run[1] - place if run[1] < self._samples else np.full_like(place, self._fade)
        depth = np.minimum(np.minimum(after, before) / self._fade, 1.0)
        gain = np.where(depth < 1.0, np.cos(0.5 * np.pi * depth) ** 2, 0.0).astype(np.float32)
        part = samples[low - start : high - start]
        part[:] = np.where(gain > 0, part * gain, np.float32(0))


def _scaled(run: Run, silence: Silence, rate: int, samples: int) -> Run:
    """A run in samples of the output; only what is wholly inside."""
    start = -(-run[0] * rate // silence.rate)
    at_end = run[1] == silence.samples
    return start, samples if at_end else min(run[1] * rate // silence.rate, samples)
