from __future__ import annotations

import math

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jatsr_model.audio.loudness import (
    Gain,
    GainPolicy,
    Loudness,
    LoudnessMeter,
    decide_gain,
    k_weighting,
)
from shards.errors import TrackSkipped

RATE = 44100


def measure(signal: np.ndarray, rate: int = RATE, cuts: list[int] | None = None) -> Loudness:
    meter = LoudnessMeter(rate, len(signal))
    for part in np.split(signal, sorted(cuts or []), axis=1):
        meter.push(part)
    return meter.result()


def music_like(seed: int, channels: int, tenths: int, rate: int = RATE) -> np.ndarray:
    """Coloured noise whose level moves over 60 dB, so that both gates matter."""
    rng = np.random.default_rng(seed)
    samples = tenths * rate // 10
    noise = rng.standard_normal((channels, samples))
    noise += np.cumsum(noise, axis=1) * 0.02
    levels = 10 ** rng.uniform(-3, -0.5, (1, tenths // 7 + 2))
    envelope = np.repeat(levels, 7 * rate // 10, axis=1)[:, :samples]
    signal = noise * envelope
    return (signal / np.abs(signal).max() * rng.uniform(0.05, 1)).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("channels", [1, 2])
def test_agrees_with_pyloudnorm(seed: int, channels: int) -> None:
    signal = music_like(seed, channels, tenths=4 + 23 * seed)
    reference = pyloudnorm.Meter(RATE, filter_class="DeMan").integrated_loudness(signal.T)
    assert measure(signal).lufs == pytest.approx(reference, abs=0.01)
    # pyloudnorm's default filters approximate the standard's a little less closely.
    default = pyloudnorm.Meter(RATE).integrated_loudness(signal.T)
    assert measure(signal).lufs == pytest.approx(default, abs=0.1)


@pytest.mark.parametrize("rate", [32000, 44100, 48000, 96000])
def test_full_scale_997_hz_is_minus_3_01_lufs(rate: int) -> None:
    """The calibration that BS.1770 states."""
    time = np.arange(5 * rate) / rate
    tone = np.sin(2 * np.pi * 997 * time)[np.newaxis].astype(np.float32)
    assert measure(tone, rate).lufs == pytest.approx(-3.01, abs=0.02)


def test_the_coefficients_at_48_khz_are_the_standards() -> None:
    table = [
        [
            1.53512485958697,
            -2.69169618940638,
            1.19839281085285,
            1,
            -1.69065929318241,
            0.73248077421585,
        ],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
    np.testing.assert_allclose(k_weighting(48000), table, atol=1e-8)


@given(st.integers(0, 60_000), st.lists(st.integers(0, 60_000), max_size=10))
@settings(max_examples=30)
def test_cutting_does_not_matter(samples: int, cuts: list[int]) -> None:
    signal = music_like(1, 2, 14)[:, :samples]
    assert measure(signal, cuts=cuts) == measure(signal)


def test_the_result_can_be_read_at_any_time() -> None:
    signal = music_like(2, 1, 31)
    meter = LoudnessMeter(RATE, 1)
    for part in np.split(signal, [1000, 50_000, 50_001], axis=1):
        meter.push(part)
        meter.result()
    assert meter.result() == measure(signal)


@pytest.mark.parametrize("samples", [1, 100, 4410, 17_639])
def test_short_signals_are_one_block(samples: int) -> None:
    signal = np.full((1, samples), 0.5, np.float32)
    signal[:, 1::2] *= -1
    loudness = measure(signal)
    from scipy.signal import sosfilt

    weighted = sosfilt(k_weighting(RATE), signal.astype(np.float64))
    assert loudness.lufs == pytest.approx(-0.691 + 10 * np.log10(np.mean(weighted**2)), abs=1e-9)


def test_plain_facts() -> None:
    signal = music_like(3, 2, 33) + np.array([[0.1], [-0.05]], np.float32)
    facts = measure(signal)
    wide = signal.astype(np.float64)
    assert facts.peak == np.abs(signal).max()
    assert facts.samples == signal.shape[1]
    assert facts.rms_dbfs == pytest.approx(10 * np.log10(np.mean(wide**2)), abs=1e-9)
    assert facts.dc == pytest.approx(tuple(wide.mean(axis=1)), abs=1e-12)


def test_nothing_and_silence() -> None:
    assert measure(np.zeros((2, 0), np.float32)) == Loudness(-math.inf, 0, -math.inf, (0, 0), 0)
    silence = measure(np.zeros((1, 100_000), np.float32))
    assert silence.lufs == -math.inf
    assert silence.peak == 0
    with pytest.raises(TrackSkipped, match="no non-zero sample"):
        decide_gain(silence, GainPolicy())


def test_near_silence_is_skipped_with_its_level() -> None:
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 90_000)).astype(np.float32)
    loudness = measure(signal)
    quiet = measure(signal * np.float32(10 ** ((-63.1 - loudness.lufs) / 20)))
    for target in (-16.0, None):
        with pytest.raises(TrackSkipped, match=r"near-silent: -63\.1 LUFS .*threshold -60"):
            decide_gain(quiet, GainPolicy(target_lufs=target))
    assert decide_gain(quiet, GainPolicy(silence_lufs=-65)).gain > 1


@given(st.floats(-50, 0), st.floats(2**-10, 8, width=32), st.floats(-40, -5))
def test_gain_reaches_the_target_or_the_ceiling(lufs: float, peak: float, target: float) -> None:
    policy = GainPolicy(target_lufs=target, ceiling=0.98)
    gain = decide_gain(Loudness(lufs, peak, lufs, (0.0,), 44100), policy)
    samples = np.array([[peak, -peak]], np.float32)
    assert np.abs(gain.apply(samples)).max() <= np.float32(0.98)
    assert float(np.float32(gain.gain)) == gain.gain
    assert gain.gain_db == pytest.approx(20 * math.log10(gain.gain))
    if gain.limited_by_peak:
        assert peak * gain.gain == pytest.approx(0.98, rel=1e-5)
        assert lufs + gain.gain_db < target + 1e-6
    else:
        assert lufs + gain.gain_db == pytest.approx(target, abs=1e-5)


def test_gain_brings_a_signal_to_the_target_and_can_be_undone() -> None:
    signal = music_like(5, 2, 50) * np.float32(0.1)
    gain = decide_gain(measure(signal), GainPolicy(target_lufs=-40.0))
    amplified = gain.apply(signal)
    assert measure(amplified).lufs == pytest.approx(-40.0, abs=0.001)
    np.testing.assert_allclose(amplified / np.float32(gain.gain), signal, rtol=3e-7)


def test_no_target_changes_nothing() -> None:
    signal = music_like(6, 1, 20) * np.float32(3)
    gain = decide_gain(measure(signal), GainPolicy(target_lufs=None))
    assert gain == Gain(1.0, 0.0, gain.loudness_lufs, gain.peak, limited_by_peak=False)
    assert gain.apply(signal) is signal
