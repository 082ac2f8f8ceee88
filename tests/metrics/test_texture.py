"""Flatness and crest: what is noise, what is a tone, what is a click."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jatsr_model.metrics import ShortClipError, crest, flatness, lsd, stft
from jatsr_model.metrics.texture import ACTIVE

RATE, SPLIT = 44100, 372  # 8 kHz
TIME = np.arange(2 * RATE) / RATE


def tensor(wave):
    return torch.from_numpy(np.asarray(wave, np.float32))


def noise(seed=0, level=0.05):
    return tensor(level * np.random.default_rng(seed).standard_normal(len(TIME)))


def partials():
    return tensor(sum(np.sin(2 * np.pi * 440 * k * TIME) for k in range(1, 50)) / 50)


def clicks():
    wave = np.zeros(len(TIME))
    wave[1000::4410] = 0.9
    return tensor(wave)


@pytest.mark.parametrize("measure", [flatness, crest])
@pytest.mark.parametrize("make", [noise, partials, clicks])
def test_a_copy_and_another_gain_are_alike(measure, make):
    wave = make()
    assert measure(wave, wave, SPLIT) == (0, 0)
    assert measure(wave, 0.5 * wave, SPLIT).distance < 0.01


@pytest.mark.parametrize("measure", [flatness, crest])
def test_other_noise_is_nearly_alike(measure):
    found = measure(noise(0), noise(1), SPLIT)
    assert 0 < found.distance < 0.15
    assert abs(found.shift) <= found.distance


def test_noise_in_place_of_partials_is_too_flat():
    found = flatness(partials(), noise(), SPLIT)
    assert found.shift > 8
    assert found.distance == pytest.approx(found.shift)  # all of it moves one way
    assert flatness(noise(), partials(), SPLIT).shift < -8


def test_noise_in_place_of_clicks_is_not_spiky_enough():
    assert crest(clicks(), noise(), SPLIT).shift < -5
    assert crest(noise(), clicks(), SPLIT).shift > 5
    assert abs(crest(clicks(), clicks().roll(300), SPLIT).shift) < 1


def test_an_envelope_filled_with_noise_has_a_small_lsd_and_shows_here():
    """What the two are for: the log-spectral distance is content with noise of the right level."""
    original = clicks() + 0.1 * partials() + noise(level=1e-3)
    options = {"fs": RATE, "nperseg": 2048, "noverlap": 1536}
    _, _, spectrum = scipy.signal.stft(original.numpy(), **options)
    random = np.random.default_rng(0)
    phase = np.exp(2j * np.pi * random.random(spectrum.shape))
    smooth = np.sqrt(scipy.ndimage.uniform_filter(np.abs(spectrum) ** 2, (16, 5)))
    filled = tensor(scipy.signal.istft(smooth * phase, **options)[1][: len(TIME)])
    silent = torch.zeros_like(original)
    assert lsd(original, filled) < 0.3 * lsd(original, silent)
    assert flatness(original, filled, SPLIT).distance > 1
    assert crest(original, filled, SPLIT).distance > 1


def test_flatness_against_another_implementation():
    first, second = (0.3 * partials() + noise(s, 1e-3) for s in (0, 1))

    def values(wave):
        spectrum = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hann", 2048), 512, RATE)
        frames = (len(wave) - 2048) // 512 + 1
        power = np.abs(spectrum.stft(wave, p0=2, p1=2 + frames)) ** 2
        bands = power[SPLIT : SPLIT + 20 * 32].reshape(20, 32, -1)
        measure = 10 * np.log10(scipy.stats.gmean(bands, axis=1) / bands.mean(1))
        return bands.mean(1) > ACTIVE * 768, measure

    (active, one), (_, two) = values(first.double().numpy()), values(second.double().numpy())
    expected = scipy.stats.wasserstein_distance(one[active], two[active])
    found = flatness(first, second, SPLIT)
    assert found.distance == pytest.approx(expected, rel=1e-3)
    assert found.shift == pytest.approx((two - one)[active].mean(), rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("measure", [flatness, crest])
def test_where_the_reference_is_silent_there_is_nothing_to_compare(measure):
    dither = 2e-5 * noise() / 0.05
    for quiet in (torch.zeros_like(dither), dither):
        assert all(math.isnan(value) for value in measure(quiet, noise(), SPLIT))
    assert math.isnan(measure(noise(), noise(), 1024).distance)  # no band is wide enough


@settings(max_examples=15)
@given(samples=st.integers(2048, 20_000), split=st.integers(1, 1024))
def test_any_length_and_any_cutoff(samples, split):
    for measure in (flatness, crest):
        found = measure(noise()[:samples], noise(1)[:samples], split)
        assert math.isnan(found.distance) or 0 <= found.distance < 20


@pytest.mark.parametrize("measure", [flatness, crest])
def test_blocks_of_frames_do_not_show(monkeypatch, measure):
    whole = measure(clicks(), noise(), SPLIT)
    monkeypatch.setattr(stft, "FRAMES_AT_ONCE", 100)
    assert measure(clicks(), noise(), SPLIT) == pytest.approx(whole, rel=1e-5)


def test_short_clips_are_errors():
    for measure in (flatness, crest):
        with pytest.raises(ShortClipError):
            measure(torch.zeros(200), torch.zeros(200), SPLIT)
