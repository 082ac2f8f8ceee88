"""Loudness of a whole track (ITU-R BS.1770-4) in one streaming pass, and the gain it calls for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, Fifo
from shards.errors import TrackSkipped

VERSION = 1

ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU
_STEPS_PER_BLOCK = 4  # 400 ms blocks, 75 % overlap: steps of 100 ms
_STEPS_PER_UNIT = 10  # steps filtered in one call
_FORGET = 1e-100  # filter states below this are zero: denormal arithmetic is slow


@dataclass(frozen=True)
class Loudness:
    """Facts of a track before its gain.

    Attributes:
        lufs: gated integrated loudness; ``-inf`` for silence.
        peak: largest absolute sample.
        rms_dbfs: root mean square over all channels, 0 dB = amplitude 1; ``-inf`` for silence.
        dc: mean of each channel.
        samples: samples per channel.
    """

    lufs: float
    peak: float
    rms_dbfs: float
    dc: tuple[float, ...]
    samples: int


@dataclass(frozen=True)
class GainPolicy:
    """How loud tracks are made.

    Attributes:
        target_lufs: loudness to reach; None leaves every track as it is (gain exactly 1).
        ceiling: largest absolute sample after the gain.
        silence_lufs: tracks below this are skipped, never amplified.
    """

    target_lufs: float | None = -16.0
    ceiling: float = 1.0
    silence_lufs: float = -60.0


@dataclass(frozen=True)
class Gain:
    """The one gain of a track; ``gain`` is exactly a float32, so dividing by it undoes it."""

    gain: float
    gain_db: float
    loudness_lufs: float
    peak: float
    limited_by_peak: bool

    def apply(self, block: Block) -> Block:
        """``block * gain`` in float32."""
        if self.gain == 1.0:
            return block
        amplified: Block = block * np.float32(self.gain)
        return amplified


class _Sums(NamedTuple):
    """Sums over 100 ms steps, each float64 ``(C, steps)``."""

    weighted: NDArray[np.float64]  # squares after K-weighting
    plain: NDArray[np.float64]  # squares
    offset: NDArray[np.float64]  # samples


class LoudnessMeter:
    """Streaming meter; the result does not depend on how the signal is cut.

    Signals shorter than one 400 ms block are measured as a single block.

    Args:
        rate: Hz.
        channels: C, each weighted 1 (mono, or left and right).
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._channels = channels
        self._sos = k_weighting(rate)
        self._state = np.zeros((len(self._sos), channels, 2))
        self._step = round(rate / 10)
        self._fifo = Fifo()
        self._sums: list[_Sums] = []
        self._peak = 0.0
        self._samples = 0

    def push(self, block: Block) -> None:
        """Measure float32 ``(C, n)``."""
        if not block.shape[1]:
            return
        self._peak = max(self._peak, float(block.max()), -float(block.min()))
        self._samples += block.shape[1]
        self._fifo.push(block)
        unit = self._step * _STEPS_PER_UNIT
        while self._fifo.available >= unit:
            sums, state = self._measure(self._fifo.take(unit))
            state[np.abs(state) < _FORGET] = 0.0
            self._sums.append(sums)
            self._state = state

    def result(self) -> Loudness:
        """Facts of everything pushed so far."""
        parts = list(self._sums)
        if self._fifo.available:
            rest = self._fifo.take(self._fifo.available)
            self._fifo.push(rest)
            parts.append(self._measure(rest)[0])
        if not parts:
            return Loudness(-math.inf, 0.0, -math.inf, (0.0,) * self._channels, 0)
        sums = _Sums(*(np.concatenate(column, axis=1) for column in zip(*parts, strict=True)))
        square = math.fsum(sums.plain.ravel()) / (self._samples * self._channels)
        return Loudness(
            lufs=self._integrated(sums.weighted),
            peak=self._peak,
            rms_dbfs=_decibels(square),
            dc=tuple(math.fsum(row) / self._samples for row in sums.offset),
            samples=self._samples,
        )

    def _measure(self, block: Block) -> tuple[_Sums, NDArray[np.float64]]:
        """Sums of each 100 ms step of a block, the last one possibly short."""
        from scipy.signal import sosfilt  # loads slowly

        signal = block.astype(np.float64)
        weighted, state = sosfilt(self._sos, signal, zi=self._state)
        starts = np.arange(0, block.shape[1], self._step)
        return _Sums(
            weighted=np.add.reduceat(weighted * weighted, starts, axis=1),
            plain=np.add.reduceat(signal * signal, starts, axis=1),
            offset=np.add.reduceat(signal, starts, axis=1),
        ), state

    def _integrated(self, energies: NDArray[np.float64]) -> float:
        total = energies.sum(axis=0)  # over channels
        whole = self._samples // self._step  # steps; an incomplete one belongs to no block
        if whole < _STEPS_PER_BLOCK:
            blocks = np.array([math.fsum(total) / self._samples])
        else:
            windows = np.lib.stride_tricks.sliding_window_view(total[:whole], _STEPS_PER_BLOCK)
            blocks = windows.sum(axis=1) / (_STEPS_PER_BLOCK * self._step)
        return gated_loudness(blocks)


def gated_loudness(energies: NDArray[np.float64]) -> float:
    """Integrated loudness of K-weighted block energies (BS.1770-4, equations 3 to 7).

    Args:
        energies: mean square of each 400 ms block, summed over channels.

    Returns:
        LUFS; ``-inf`` if no block passes the absolute gate.
    """
    kept = energies[energies > _energy(ABSOLUTE_GATE)]
    if not kept.size:
        return -math.inf
    kept = kept[kept > kept.mean() * 10 ** (RELATIVE_GATE / 10)]
    return -0.691 + _decibels(float(kept.mean()))


def k_weighting(rate: int) -> NDArray[np.float64]:
    """The two K-weighting biquads at any rate, sections ``(2, 6)`` as scipy takes them.

    BS.1770 tabulates them for 48 kHz; these are the analogue prototypes behind the table
    (B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES 2018),
    which give the tabulated coefficients at 48 kHz.
    """
    k = math.tan(math.pi * 1681.974450955533 / rate)
    q = 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    norm = 1 + k / q + k * k
    shelf = [
        (high + band * k / q + k * k) / norm,
        2 * (k * k - high) / norm,
        (high - band * k / q + k * k) / norm,
        1.0,
        2 * (k * k - 1) / norm,
        (1 - k / q + k * k) / norm,
    ]
    k = math.tan(math.pi * 38.13547087602444 / rate)
    q = 0.5003270373238773
    norm = 1 + k / q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm]
    return np.array([shelf, high_pass])


def decide_gain(loudness: Loudness, policy: GainPolicy) -> Gain:
    """One gain for the whole track; a constant offset (DC) is kept.

    Raises:
        TrackSkipped: the track is silent or nearly so.
    """
    if loudness.peak == 0.0:
        raise TrackSkipped("silent: no non-zero sample")
    if loudness.lufs < policy.silence_lufs:
        raise TrackSkipped(
            f"near-silent: {loudness.lufs:.1f} LUFS ({loudness.rms_dbfs:.1f} dBFS RMS), "
            f"threshold {policy.silence_lufs:g} LUFS"
        )
    if policy.target_lufs is None:
        return Gain(1.0, 0.0, loudness.lufs, loudness.peak, limited_by_peak=False)
    wanted = np.float32(10 ** ((policy.target_lufs - loudness.lufs) / 20))
    limit = _largest_gain(loudness.peak, policy.ceiling)
    gain = float(min(wanted, limit))
    return Gain(
        gain=gain,
        gain_db=20 * math.log10(gain),
        loudness_lufs=loudness.lufs,
        peak=loudness.peak,
        limited_by_peak=bool(limit < wanted),
    )


def _largest_gain(peak: float, ceiling: float) -> np.float32:
    """The largest float32 whose float32 product with the peak stays within the ceiling."""
    gain = np.float32(ceiling / peak)
    while float(gain) * peak > ceiling or np.float32(peak) * gain > np.float32(ceiling):
        gain = np.nextafter(gain, np.float32(0))
    return gain


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def _decibels(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
