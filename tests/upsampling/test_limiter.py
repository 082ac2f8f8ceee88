"""Peaks above full scale are lowered, the rest is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import cut, tilted

from jatsr_model.upsampling.limiter import Limiter

RATE = 44100
NEAR = 2 * round(0.005 * RATE)  # samples around a peak that may change


def limit(signal, places=(), top=1.0):
    limiter = Limiter(RATE, len(signal), top)
    parts = [limiter.push(part) for part in cut(signal, list(places))]
    return np.concatenate([*parts, limiter.flush()], axis=1), limiter


@given(st.integers(0, 60_000), st.lists(st.integers(0, 60_000), max_size=6), st.floats(0.5, 12))
@settings(max_examples=25)
def test_nothing_exceeds_and_cutting_does_not_matter(samples, places, gain):
    signal = (tilted(1.5, 3, channels=2) * np.float32(gain))[:, :samples]
    whole, limiter = limit(signal)
    assert whole.shape == signal.shape
    assert np.abs(whole).max(initial=0) <= 1
    np.testing.assert_array_equal(limit(signal, places)[0], whole)
    assert bool(limiter.limited) == bool((np.abs(signal) > 1).any())


@pytest.mark.parametrize("place", [0, 7, 20_000, 16_383, 16_384, 39_999])
def test_only_the_neighbourhood_of_a_peak_changes(place):
    signal = np.full((2, 40_000), 0.5, np.float32)
    signal[1, place] = 2.0
    out, limiter = limit(signal)
    far = np.abs(np.arange(40_000) - place) > NEAR
    np.testing.assert_array_equal(out[:, far], signal[:, far])
    assert out[1, place] == pytest.approx(1.0, abs=1e-6)
    assert out[0, place] == pytest.approx(0.25, abs=1e-6)  # one gain for all channels
    assert limiter.lowest_gain == pytest.approx(0.5, abs=1e-6)
    assert 0 < limiter.limited <= 2 * NEAR + 1
    assert np.abs(np.diff(out[0])).max() < 0.003  # smooth


def test_full_scale_passes_untouched():
    top = 1 - 2.0**-15
    signal = np.tile(np.float32([[top, -1.0, 0.0, -top]]), (1, 9000))
    out, limiter = limit(signal, top=top)
    np.testing.assert_array_equal(out, signal)
    assert limiter.limited == 0
    assert limiter.lowest_gain == 1.0
    assert limit(np.abs(signal), top=top)[0].max() <= top
