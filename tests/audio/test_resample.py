from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jatsr_model.audio.resample import Resampler, output_length

RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 192000]


def convert(signal: np.ndarray, in_rate: int, out_rate: int, cuts: list[int]) -> np.ndarray:
    resampler = Resampler(in_rate, out_rate, len(signal))
    parts = [resampler.push(part) for part in np.split(signal, sorted(cuts), axis=1)]
    return np.concatenate([*parts, resampler.flush()], axis=1)


def tones(rate: int, seconds: float, limit: float) -> np.ndarray:
    """A smooth burst of tones below ``limit`` Hz, evaluated at the sample times of ``rate``."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(0)
    signal = sum(
        np.sin(2 * np.pi * f * time + phase)
        for f, phase in zip(rng.uniform(50, limit, 12), rng.uniform(0, 6, 12), strict=True)
    )
    envelope = np.sin(np.pi * np.clip(time / seconds, 0, 1)) ** 2
    return (0.05 * signal * envelope)[np.newaxis].astype(np.float32)


@pytest.mark.parametrize("in_rate", RATES)
def test_equals_the_signal_evaluated_at_the_new_times(in_rate: int) -> None:
    limit = 0.4 * min(in_rate, 44100)
    expected = tones(44100, 1.0, limit)
    converted = convert(tones(in_rate, 1.0, limit), in_rate, 44100, [])
    assert converted.shape == expected.shape
    error = np.abs(converted - expected)[:, 500:-500].max()
    assert error < 1e-5
    lags = np.correlate(converted[0, 100:-100], expected[0, 110:-110], mode="valid")
    assert int(lags.argmax()) == 10  # aligned to the sample


@given(
    st.integers(0, 5000),
    st.sampled_from(RATES),
    st.sampled_from([*RATES, 4000, 31900]),
    st.lists(st.integers(0, 5000), max_size=8),
)
@settings(max_examples=80)
def test_length_is_exact_and_cutting_does_not_matter(
    samples: int, in_rate: int, out_rate: int, cuts: list[int]
) -> None:
    signal = np.random.default_rng(samples).standard_normal((2, samples)).astype(np.float32)
    whole = convert(signal, in_rate, out_rate, [])
    assert whole.shape[1] == int(np.floor(samples * out_rate / in_rate + 0.5))
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(convert(signal, in_rate, out_rate, cuts), whole)


def test_equal_rates_pass_through() -> None:
    signal = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    np.testing.assert_array_equal(convert(signal, 44100, 44100, [3, 500]), signal)


@pytest.mark.parametrize("total", [0, 1, 99, 100, 101, 250])
def test_a_stated_total_is_kept(total: int) -> None:
    resampler = Resampler(16000, 44100, 1)
    head = resampler.push(np.ones((1, 36), np.float32))
    assert head.shape[1] + resampler.flush(total).shape[1] == total


def test_less_than_returned_already_is_refused() -> None:
    resampler = Resampler(48000, 44100, 1)
    assert resampler.push(np.ones((1, 48000), np.float32)).shape[1] > 10
    with pytest.raises(ValueError, match="more than 10 asked for"):
        resampler.flush(10)


def test_halves_are_rounded_up() -> None:
    assert output_length(1, 2, 1) == 1
    assert output_length(3, 2, 1) == 2
    assert output_length(1, 3, 1) == 0
    assert output_length(36_000 * 192_000, 192_000, 44_100) == 36_000 * 44_100
