"""Gain into a network and back; digital silence stays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import cut, tilted

from jatsr_model.upsampling.levels import SilenceGate, SilenceMeter, input_gain

RATE = 1000  # 20 ms are 20 samples, 5 ms are 5


@given(st.floats(-200, 10), st.floats(0, 4), st.floats(0, 0.01))
def test_the_gain_is_continuous_in_the_level(rms, peak, step):
    one, other = (input_gain(level, peak).gain for level in (rms, rms + step))
    assert 0 <= 20 * math.log10(one / other) <= step + 1e-5
    nearly = input_gain(rms, peak * 1.0001).gain
    assert one * 0.9998 <= nearly <= one * 1.00001


def test_the_gain_meets_its_target_within_its_limits():
    assert input_gain(-30, 0.1).gain == pytest.approx(10 ** (10 / 20))
    assert input_gain(-8, 0.9).gain == pytest.approx(10 ** (-12 / 20))
    assert input_gain(-90, 1e-4).gain == pytest.approx(100)  # never more than 40 dB
    assert input_gain(-math.inf, 0.0).gain == pytest.approx(100)
    assert input_gain(-40, 0.5).gain == pytest.approx(2)  # the peak stays within full scale
    assert input_gain(-30, 0.01, target_dbfs=-16, most_db=3).gain == pytest.approx(10 ** (3 / 20))


@given(st.floats(-120, 0), st.floats(1e-6, 4))
@settings(max_examples=30)
def test_the_gain_is_undone(rms, peak):
    gain = input_gain(rms, peak)
    signal = tilted(0.1, 3, channels=2)
    np.testing.assert_allclose(gain.undo(gain.apply(signal)), signal, rtol=2.5e-7, atol=0)
    assert gain.apply(signal).dtype == gain.undo(signal).dtype == np.float32


def measured(signal, places=(), rate=RATE):
    meter = SilenceMeter(rate, len(signal))
    for block in cut(signal, list(places)):
        meter.push(block)
    return meter.result()


def plain_runs(zero, least):
    """Runs of true values, found one by one."""
    runs, start = [], None
    for place, value in enumerate([*zero, False]):
        if value and start is None:
            start = place
        elif not value and start is not None:
            if place - start >= least:
                runs.append((start, place))
            start = None
    return tuple(runs)


@st.composite
def patchy(draw):
    """Two channels of runs of zeros and ones."""
    rows = []
    for _ in range(2):
        lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=12))
        first = draw(st.integers(0, 1))
        rows.append(np.concatenate([np.full(n, (first + i) % 2) for i, n in enumerate(lengths)]))
    samples = min(map(len, rows))
    return np.stack([row[:samples] for row in rows]).astype(np.float32)


@given(patchy(), st.lists(st.integers(0, 600), max_size=6))
def test_runs_of_silence_are_found_however_the_signal_is_cut(signal, places):
    found = measured(signal, places)
    assert found.channels == tuple(plain_runs(row == 0, 20) for row in signal)
    assert found.common == plain_runs((signal == 0).all(axis=0), 20)
    assert found.samples == signal.shape[1]
    assert found.seconds == pytest.approx(sum(b - a for a, b in found.common) / RATE)


def test_silence_at_the_ends_is_told():
    signal = np.ones((1, 1000), np.float32)
    signal[:, :100] = signal[:, 400:450] = signal[:, 970:] = 0
    found = measured(signal)
    assert (found.leading_seconds, found.trailing_seconds) == (0.1, 0.03)
    assert found.seconds == pytest.approx(0.18)
    for ends in (measured(np.ones((1, 50), np.float32)), measured(np.ones((1, 0), np.float32))):
        assert ends.leading_seconds == ends.trailing_seconds == ends.seconds == 0


def gated(signal, output, rate, places=()):
    gate = SilenceGate(measured(signal), rate, output.shape[1])
    done, start = [], 0
    for block in cut(output, list(places)):
        done.append(gate.apply(block, start))
        start += block.shape[1]
    return np.concatenate(done, axis=1)


@given(patchy(), st.sampled_from([500, 1000, 2756, 44100]), st.lists(st.integers(0, 9000)))
@settings(max_examples=60)
def test_the_gate_makes_zeros_and_leaves_the_rest(signal, rate, places):
    samples = signal.shape[1] * rate // RATE
    output = np.full((2, samples), 0.5, np.float32)
    whole = gated(signal, output, rate)
    np.testing.assert_array_equal(gated(signal, output, rate, places), whole)
    assert (output == 0.5).all()  # the caller's own
    fade = max(round(0.005 * rate), 1)
    for row, samples_in in zip(whole, signal, strict=True):
        inside = np.zeros(samples, bool)
        deep = np.zeros(samples, bool)
        for start, stop in plain_runs(samples_in == 0, 20):
            first, last = math.ceil(start * rate / RATE), math.floor(stop * rate / RATE)
            last = samples if stop == signal.shape[1] else last
            inside[first:last] = True
            at_end = last == samples
            deep[first + fade * (first > 0) : last if at_end else last - fade] = True
        assert (row[~inside] == 0.5).all()
        assert (row[deep] == 0).all()
        assert ((row >= 0) & (row <= 0.5)).all()


def test_the_gate_fades_without_a_jump():
    signal = np.ones((1, 3000), np.float32)
    signal[:, 1000:2000] = 0
    out = gated(signal, np.ones((1, 3 * 44100), np.float32), 44100)
    assert np.abs(np.diff(out)).max() < 0.01
    assert np.count_nonzero(out == 0) > 0.98 * 44100
