"""Rounding to integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import cut, tilted

from jatsr_model.upsampling.dither import quantise, triangular


@given(st.integers(0, 200_000), st.integers(0, 70_000), st.integers(0, 3))
@settings(max_examples=20)
def test_noise_is_a_function_of_seed_channel_and_place(start, samples, seed):
    whole = triangular(2, 0, 270_000, seed)
    np.testing.assert_array_equal(
        triangular(2, start, samples, seed), whole[:, start:][:, :samples]
    )


def test_noise_is_triangular_white_and_independent():
    noise = triangular(2, 0, 500_000, 7)
    assert np.abs(noise).max() < 1
    assert noise.mean() == pytest.approx(0, abs=0.002)
    assert noise.var() == pytest.approx(1 / 6, rel=0.01)
    assert np.abs(noise[0] > 0.5).mean() == pytest.approx(1 / 8, rel=0.03)
    for one, other in ((noise[0], noise[1]), (noise[0, 1:], noise[0, :-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.006
    assert abs(np.corrcoef(noise[0], triangular(1, 0, 500_000, 8)[0])[0, 1]) < 0.006


@pytest.mark.parametrize("bits", [16, 24])
def test_what_fits_is_left_alone(bits):
    scale = 1 << (bits - 1)
    whole = np.array([[0, 1, -1, 12345, -scale, scale - 1]]) / scale
    block = np.tile(whole.astype(np.float32), (2, 3))
    np.testing.assert_array_equal(quantise(block, bits, 5, 0) >> (32 - bits), block * scale)


@pytest.mark.parametrize("bits", [16, 24])
def test_values_beyond_are_clipped_not_wrapped(bits):
    block = np.array([[1.0, 1.7, -1.5]], np.float32)
    scale = 1 << (bits - 1)
    assert (quantise(block, bits, 0, 0) >> (32 - bits)).tolist() == [[scale - 1, scale - 1, -scale]]


def test_the_error_does_not_depend_on_the_signal():
    """A sine of a third of a step: rounded without dither it would be gone."""
    time = np.arange(400_000) / 44100
    sine = np.sin(2 * np.pi * 1000 * time)
    block = (sine / 3 / 32768).astype(np.float32)[None]
    steps = (quantise(block, 16, 0, 0) >> 16)[0].astype(float)
    assert 2 * (steps * sine).mean() == pytest.approx(1 / 3, rel=0.03)
    error = steps - sine / 3
    assert error.var() == pytest.approx(1 / 4, rel=0.02)  # 1/12 of rounding, 1/6 of dither
    loud = np.abs(sine) > 0.7
    assert error[loud].var() == pytest.approx(error[~loud].var(), rel=0.03)


@given(st.lists(st.integers(0, 150_000), max_size=6))
@settings(max_examples=10)
def test_cutting_does_not_matter(places):
    signal = tilted(3.4, 3, channels=2)
    start, done = 0, []
    for part in cut(signal, places):
        done.append(quantise(part, 16, start, 1))
        start += part.shape[1]
    np.testing.assert_array_equal(np.concatenate(done, axis=1), quantise(signal, 16, 0, 1))
