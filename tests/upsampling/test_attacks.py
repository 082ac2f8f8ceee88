"""No hiss before an attack, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt
from sounds import cut, tilted

from jatsr_model.upsampling.attacks import Attacks
from jatsr_model.upsampling.splice import Crossover

RATE = 44100
CROSSOVER = Crossover(3400.0, 3800.0)
OWN = tilted(3, 4.5, channels=2)
OTHER = tilted(3, 4.5, channels=2, seed=1)


def shape(own, generated, places=(), rate=RATE, crossover=CROSSOVER):
    attacks = Attacks(rate, len(own), crossover)
    pairs = zip(cut(own, list(places)), cut(generated, list(places)), strict=True)
    done = [*(attacks.push(*pair) for pair in pairs), attacks.flush()]
    return tuple(np.concatenate(parts, axis=1) for parts in zip(*done, strict=True))


def below(signal, rate=RATE, edge=3400.0):
    return sosfilt(butter(8, edge, fs=rate, output="sos"), signal).astype(np.float32)


def clicks(rate=RATE, channels=1, seed=0):
    """Bursts of noise that decay, 80 dB over a floor, below the cutoff; places and signal."""
    places = np.arange(rate // 4, rate, rate // 4)
    rng = np.random.default_rng(seed)
    wave = 1e-4 * rng.standard_normal((channels, int(1.2 * rate)))
    decay = np.exp(-np.arange(rate // 10) / (0.01 * rate))
    for place in places:
        wave[:, place : place + len(decay)] += decay * rng.standard_normal((channels, len(decay)))
    return places, below(wave, rate)


@given(st.integers(0, 60_000), st.lists(st.integers(0, 60_000), max_size=8))
@settings(max_examples=20)
def test_cutting_does_not_matter_and_length_is_kept(samples, places):
    own, generated = OWN[:, :samples], OTHER[:, :samples]
    kept, shaped = shape(own, generated)
    np.testing.assert_array_equal(kept, own)
    assert shaped.shape == generated.shape
    assert shaped.dtype == np.float32
    np.testing.assert_array_equal(shape(own, generated, places)[1], shaped)


@given(st.sampled_from([8000, 44100, 96000]), st.floats(0.2, 0.9), st.integers(1, 3))
@settings(max_examples=10)
def test_equal_signals_stay_equal(rate, share, channels):
    high = share * rate / 2
    signal = tilted(0.5, 3, channels=channels)
    _, shaped = shape(signal, signal.copy(), rate=rate, crossover=Crossover(0.95 * high, high))
    np.testing.assert_array_equal(shaped, signal)


@pytest.mark.parametrize("rate", [22_050, 44_100, 96_000])
def test_hiss_before_an_attack_goes_and_what_follows_stays(rate):
    places, own = clicks(rate)
    hiss = 0.1 * np.random.default_rng(1).standard_normal(own.shape).astype(np.float32)
    _, shaped = shape(own, own + hiss, rate=rate)
    was, became = hiss[0], (shaped - own)[0]
    for place in places:
        before = slice(place - round(0.015 * rate), place - round(0.003 * rate))
        after = slice(place + round(0.003 * rate), place + round(0.03 * rate))
        ratio = np.square(became[before]).mean() / np.square(was[before]).mean()
        assert 10 * np.log10(ratio) < -20
        np.testing.assert_allclose(became[after], was[after], atol=1e-6)


def test_steady_sounds_stay_as_they_are():
    time = np.arange(2 * RATE) / RATE
    tone = np.sin(2 * np.pi * 2500 * time).astype(np.float32)[None]
    hiss = OTHER[:1, : tone.shape[1]]
    inside = slice(RATE // 10, -RATE // 10)
    np.testing.assert_array_equal(shape(tone, hiss)[1][:, inside], hiss[:, inside])
    noise = below(np.random.default_rng(2).standard_normal((1, 2 * RATE)))
    changed = shape(noise, hiss)[1] - hiss
    assert 10 * np.log10(np.square(changed).mean() / np.square(hiss).mean()) < -10


def test_the_level_does_not_matter():
    _, own = clicks()
    hiss = 0.1 * np.random.default_rng(1).standard_normal(own.shape).astype(np.float32)
    _, loud = shape(own, own + hiss)
    factor = np.float32(0.25)
    _, quiet = shape(own * factor, (own + hiss) * factor)
    np.testing.assert_allclose(quiet / factor, loud, atol=2e-3)


def test_all_channels_are_shaped_alike():
    _, own = clicks(channels=1)
    both = np.concatenate([own, np.zeros_like(own)])
    hiss = 0.1 * np.random.default_rng(1).standard_normal(own.shape).astype(np.float32)
    _, shaped = shape(both, both + hiss)
    np.testing.assert_allclose(shaped[0] - both[0], shaped[1], atol=1e-6)


def test_silence_is_no_attack():
    nothing = np.zeros((1, RATE), np.float32)
    np.testing.assert_array_equal(shape(nothing, OTHER[:1, :RATE])[1], OTHER[:1, :RATE])
