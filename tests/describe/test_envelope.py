"""The roll-off of any crop from the compact envelope, against its own transform frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from pipeline.stages.describe import Describer
from pipeline.stages.stft import MagnitudeStft
from shards.crop_rolloff import crop_rolloff
from shards.envelope import (
    BANDS,
    BINS,
    BLOCK_FRAMES,
    COLUMNS,
    EDGES,
    ORIGIN_DB,
    STEP_DB,
    blocks_of,
    dequantise,
    encode_bands,
    quantise,
    rolloff,
)
from shards.errors import FormatError

RATE = 44100
Wave = NDArray[np.float32]


def sweep(seconds: float) -> Wave:
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.5 * signal.chirp(time, 200, seconds, 16000)).astype(np.float32)


def opening_filter(seconds: float) -> Wave:
    """Noise whose cutoff glides from 1 kHz to 18 kHz and back."""
    size, hop = 4096, 2048
    generator = np.random.default_rng(2)
    wave = np.zeros(int(seconds * RATE) + size)
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    for start in range(0, len(wave) - size, hop):
        cutoff = 9500 - 8500 * np.cos(2 * np.pi * start / len(wave))
        part = np.fft.rfft(0.2 * generator.standard_normal(size))
        part[int(cutoff / RATE * size) :] = 0
        wave[start : start + size] += window * np.fft.irfft(part)
    return wave[: int(seconds * RATE)].astype(np.float32)


def bursts(seconds: float) -> Wave:
    """Half a second of noise of random bandwidth and level, then another."""
    generator = np.random.default_rng(3)
    parts = []
    for _ in range(int(seconds * 2)):
        sos = signal.butter(8, generator.uniform(1500, 18000), fs=RATE, output="sos")
        part = signal.sosfilt(sos, generator.standard_normal(RATE // 2))
        parts.append(part * generator.uniform(0.02, 0.3))
    return np.concatenate(parts).astype(np.float32)


def gaps(seconds: float) -> Wave:
    """Low-passed noise with silence in between, on a bed of faint wide noise in one half."""
    wave = np.random.default_rng(4).standard_normal(int(seconds * RATE)) * 0.2
    wave = signal.sosfilt(signal.butter(8, 6000, fs=RATE, output="sos"), wave)
    wave *= (np.arange(len(wave)) // 30000) % 2
    wave[len(wave) // 2 :] += 1e-4 * np.random.default_rng(6).standard_normal(len(wave) // 2)
    return wave.astype(np.float32)


def hats(seconds: float) -> Wave:
    """A steady bass and short bright strokes: the case that a coarse time grid gets wrong."""
    time = np.arange(int(seconds * RATE)) / RATE
    bass = sum(0.3 / k * np.sin(2 * np.pi * 110 * k * time) for k in range(1, 12))
    stroke = np.exp(-((time % 0.9) * 25)) * np.random.default_rng(5).standard_normal(len(time))
    return (bass + 0.2 * stroke).astype(np.float32)


def described(wave: Wave) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8], int]:
    frames = -(-len(wave) // 512)
    describer = Describer(1, frames)
    describer.push(wave[None, None])
    (item,) = describer.flush(frames)
    stft = MagnitudeStft(1)
    parts = [*stft.push(wave[None]), *stft.flush()]
    return np.concatenate(parts, axis=1)[0], item.spectrum[0], item.bands[0], frames


# Bounds for (mean, worst) of 200 crops at random phases. A lone gliding tone is the worst case:
# nothing says how far into a band it has come, so the error can reach a band's width.
@pytest.mark.parametrize(
    ("make", "mean", "worst"),
    [
        (sweep, 0.025, 0.05),
        (opening_filter, 0.005, 0.02),
        (bursts, 0.003, 0.012),
        (gaps, 0.001, 0.003),
        (hats, 0.002, 0.008),
    ],
)
def test_crops_of_moving_spectra(make: object, mean: float, worst: float) -> None:
    assert callable(make)
    magnitudes, spectrum, bands, frames = described(make(20.0))
    starts = np.random.default_rng(0).integers(0, frames - 512, 200)
    errors = [
        abs(
            crop_rolloff(spectrum, bands, int(start), 512, frames)
            - rolloff(magnitudes[start : start + 512].sum(axis=0, dtype=np.float64))
        )
        for start in starts
    ]
    assert np.mean(errors) < mean
    assert np.max(errors) < worst


@pytest.mark.parametrize("samples", [700, 64 * 512, 64 * 512 + 1, 100_000])
def test_whole_excerpt_as_one_crop(samples: int) -> None:
    wave = bursts(3.0)[:samples]
    magnitudes, spectrum, bands, frames = described(wave)
    exact = rolloff(magnitudes.sum(axis=0, dtype=np.float64))
    assert abs(crop_rolloff(spectrum, bands, 0, frames, frames) - exact) <= 0.004


def test_every_crop_length_and_position_works() -> None:
    _, spectrum, bands, frames = described(bursts(1.6))
    for start in range(0, frames, 7):
        for length in (1, 2, 15, 16, 17, 63, 64, 65, frames - start):
            if start + length <= frames:
                assert 0.0 <= crop_rolloff(spectrum, bands, start, length, frames) < 1.0


def test_silence_is_zero_and_so_is_a_silent_crop() -> None:
    silent = np.zeros(100 * 512, np.float32)
    _, spectrum, bands, frames = described(silent)
    assert crop_rolloff(spectrum, bands, 10, 50, frames) == 0.0
    late = np.concatenate([silent, bursts(2.0)])
    _, spectrum, bands, frames = described(late)
    assert crop_rolloff(spectrum, bands, 0, 64, frames) == 0.0


def test_a_crop_that_ends_before_a_stroke_does_not_hear_it() -> None:
    """Quiet low noise, then loud wide noise from the middle of block 3 on."""
    generator = np.random.default_rng(8)
    quiet = signal.sosfilt(
        signal.butter(8, 7000, fs=RATE, output="sos"), generator.standard_normal(224 * 512)
    )
    loud = generator.standard_normal(200 * 512)
    wave = np.concatenate([0.001 * quiet, 0.3 * loud]).astype(np.float32)
    magnitudes, spectrum, bands, frames = described(wave)
    exact = rolloff(magnitudes[:208].sum(axis=0, dtype=np.float64))
    assert exact < 0.4
    assert abs(crop_rolloff(spectrum, bands, 0, 208, frames) - exact) < 0.02


def test_band_table() -> None:
    widths = np.diff(EDGES)
    assert (EDGES[0], EDGES[-1], len(EDGES)) == (0, BINS, BANDS + 1)
    assert widths.min() >= 8
    assert (np.diff(widths) >= -1).all()  # wider and wider, up to rounding
    assert list(EDGES) == [int(np.floor(BINS * (b / BANDS) ** 1.5 + 1e-9)) for b in range(25)]


@given(st.floats(1e-4, 1e3))
def test_quantiser_is_right_to_half_a_step(magnitude: float) -> None:
    back = dequantise(quantise(np.array([magnitude])))[0]
    assert abs(20 * np.log10(back / magnitude)) <= STEP_DB / 2 + 1e-9


def test_quantiser_ends() -> None:
    below = 10 ** ((ORIGIN_DB + 0.4 * STEP_DB) / 20)
    assert quantise(np.array([0.0, below])).tolist() == [0, 0]
    assert dequantise(np.array([0], np.uint8))[0] == 0.0
    full_scale = 1024.0  # |X[0]| of a constant 1 under the Hann window
    assert quantise(np.array([full_scale]))[0] < 255
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(quantise(dequantise(codes)), codes)


def test_bands_hold_means_over_short_blocks_too() -> None:
    """A constant magnitude of 2 everywhere reads 2 in every column that has frames."""
    frames = BLOCK_FRAMES + 20
    slots = np.array([16, 16, 16, 16, 16, 4])
    sums = 2.0 * slots[:, None] * np.diff(EDGES)
    rows = encode_bands(sums, frames)
    assert rows.shape == (2, COLUMNS)
    expected = quantise(np.array([2.0]))[0]
    assert (rows[0] == expected).all()
    assert (rows[1, :BANDS] == expected).all()
    assert rows[1, BANDS:].tolist() == [expected, expected, 0, 0] * 2


def test_wrong_shapes_and_crops_are_refused() -> None:
    spectrum = np.zeros(BINS, np.uint8)
    bands = np.zeros((blocks_of(100), COLUMNS), np.uint8)
    with pytest.raises(FormatError, match="100 frames"):
        crop_rolloff(spectrum, bands[:1], 0, 10, 100)
    with pytest.raises(FormatError, match="shapes"):
        crop_rolloff(spectrum[1:], bands, 0, 10, 100)
    for start, length in ((-1, 10), (0, 0), (91, 10)):
        with pytest.raises(ValueError, match="crop"):
            crop_rolloff(spectrum, bands, start, length, 100)
