"""Where a low-res excerpt ends, by the spectra that a dataset keeps of both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.cutoff import cutoffs
from shards.envelope import BINS, quantise


def spectra(level_db: np.ndarray) -> np.ndarray:
    return quantise(10 ** (level_db / 20))[None]


def falling(seed: int) -> np.ndarray:
    """Mean magnitudes in dB, as of music: less and less upwards, and rough."""
    rough = np.random.default_rng(seed).normal(0, 4, BINS)
    return 30 - 60 * np.linspace(0, 1, BINS) + rough


@given(st.integers(0, 99), st.integers(20, BINS - 20))
def test_a_low_pass_is_found_where_it_is(seed: int, cut: int) -> None:
    high = falling(seed)
    low = np.where(np.arange(BINS) < cut, high, -96.0)
    assert cutoffs(spectra(high), spectra(low))[0] == pytest.approx(cut / (BINS - 1))


@given(st.integers(0, 99), st.integers(100, 900))
def test_holes_and_noise_of_a_codec_do_not_move_it(seed: int, cut: int) -> None:
    """One bin in ten is missing below the cutoff, and one in ten is left above."""
    random, high = np.random.default_rng(seed), falling(seed)
    odd = random.random(BINS) < 0.1
    low = np.where((np.arange(BINS) < cut) != odd, high, -90.0)
    found = cutoffs(spectra(high), spectra(low))[0] * (BINS - 1)
    assert abs(found - cut) <= 12


def test_where_nothing_audible_is_lost_it_is_1() -> None:
    high = falling(1)
    assert cutoffs(spectra(high), spectra(high - 6))[0] == 1
    ended = np.where(np.arange(BINS) < 500, high, -90.0)  # nothing was there
    low = np.where(np.arange(BINS) < 700, ended, -96.0)
    assert cutoffs(spectra(ended), spectra(low))[0] == 1
    nothing = np.zeros((2, BINS), np.uint8)
    assert cutoffs(nothing, nothing).tolist() == [1, 1]


def test_a_batch_is_its_rows() -> None:
    high = np.concatenate([spectra(falling(k)) for k in range(3)])
    low = high.copy()
    low[0, 200:], low[2, 700:] = 0, 0
    found = cutoffs(high, low)
    assert found.dtype == np.float32
    for row in range(3):
        assert cutoffs(high[row : row + 1], low[row : row + 1])[0] == found[row]
