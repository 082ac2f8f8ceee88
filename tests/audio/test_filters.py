from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as ss

from pipeline.stages.filters import (
    ORDERS,
    TYPES,
    design_params,
    sections,
)
from pipeline.stages.fir import ZeroPhaseFir, zero_phase_taps

RATE = 44100


def run(taps: np.ndarray, signal: np.ndarray, cuts: list[int]) -> np.ndarray:
    fir = ZeroPhaseFir(taps, len(signal))
    parts = [fir.push(part) for part in np.split(signal, sorted(cuts), axis=1)]
    return np.concatenate([*parts, fir.flush()], axis=1)


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (channels, samples)).astype(np.float32)


def one_way(kind: str, order: int, cutoff: int) -> np.ndarray:
    """The filters of the paper, designed here independently."""
    if kind == "cheby1":
        return ss.cheby1(order, 0.1, cutoff / (RATE / 2), output="sos")
    if kind == "butterworth":
        return ss.butter(order, cutoff / (RATE / 2), output="sos")
    if kind == "bessel":
        return ss.bessel(order, cutoff / (RATE / 2), output="sos")
    return ss.ellip(order, 0.1, 60, cutoff / (RATE / 2), output="sos")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_equals_filtering_forwards_and_backwards(kind: str, order: int) -> None:
    signal = noise(60_000)
    for cutoff in (2000, 3700, 8000, 16000):
        taps = zero_phase_taps(sections(design_params(kind, order, cutoff)))
        expected = ss.sosfiltfilt(one_way(kind, order, cutoff), signal.astype(np.float64), padlen=0)
        inner = slice(2 * len(taps), -2 * len(taps))
        error = np.abs(run(taps, signal, []) - expected)[:, inner]
        assert error.size > 20_000
        assert error.max() < 3e-6


@pytest.mark.parametrize("kind", TYPES)
def test_the_tail_left_out_is_below_the_bound(kind: str) -> None:
    sos = one_way(kind, 10, 2000)
    taps = zero_phase_taps(sections(design_params(kind, 10, 2000)))
    impulse = np.zeros(1 << 16)
    impulse[1 << 15] = 1
    whole = ss.sosfiltfilt(sos, impulse, padlen=0)[1 << 15 :]
    assert 2 * np.abs(whole[len(taps) :]).sum() < 1e-6
    np.testing.assert_allclose(taps, whole[: len(taps)], atol=1e-10)


@given(st.integers(0, 70_000), st.lists(st.integers(0, 70_000), max_size=8))
@settings(max_examples=25)
def test_cutting_does_not_matter_and_length_is_kept(samples: int, cuts: list[int]) -> None:
    taps = zero_phase_taps(one_way("elliptic", 8, 4000))
    signal = noise(70_000, 2)[:, :samples]
    whole = run(taps, signal, [])
    assert whole.shape == signal.shape
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(run(taps, signal, cuts), whole)


@pytest.mark.parametrize("samples", [1, 1000, 16_384, 40_000])
def test_equals_direct_convolution_to_the_edges(samples: int) -> None:
    taps = zero_phase_taps(one_way("butterworth", 4, 5000))
    signal = noise(samples)
    kernel = np.concatenate([taps[:0:-1], taps])
    expected = np.convolve(signal[0].astype(np.float64), kernel, mode="full")
    expected = expected[len(taps) - 1 :][:samples]
    np.testing.assert_allclose(run(taps, signal, [])[0], expected, atol=2e-6)


def test_a_single_tap_is_a_gain() -> None:
    np.testing.assert_allclose(
        run(np.array([0.5]), noise(20_000), [7]), noise(20_000) / 2, atol=1e-6
    )
