"""LSD: hand-computed, against another implementation, and what must not change it."""

from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch
from helpers import music
from hypothesis import given, settings
from hypothesis import strategies as st

from jatsr_model.metrics import (
    ShortClipError,
    band_lsd,
    lsd,
    lsd_jatsr_db,
    lsd_ssr_eval,
    split_bin,
    stft,
)

WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
FORMS = {
    "default": lsd,
    "ssr_eval": lambda a, b: lsd_ssr_eval(a, b, 44100),
    "jatsr": lsd_jatsr_db,
}


def noise(*shape, seed=0, level=0.1):
    random = np.random.default_rng(seed)
    return torch.from_numpy((level * random.standard_normal(shape)).astype(np.float32))


def impulses(samples, *places):
    wave = torch.zeros(samples)
    wave[list(places)] = 1.0
    return wave


@pytest.mark.parametrize("place", [512, 700, 1024])
def test_an_impulse_against_silence(place):
    """The spectrum of an impulse is flat, that of silence is the floor."""
    expected = math.log10(WINDOW[place] ** 2 / 1e-8)
    assert float(lsd(impulses(2048, place), torch.zeros(2048))) == pytest.approx(expected, 1e-5)


def test_frames_are_averaged():
    expected = np.mean([math.log10(WINDOW[place] ** 2 / 1e-8) for place in (700, 188)])
    wave = impulses(2048 + 512, 700)
    assert float(lsd(wave, torch.zeros_like(wave))) == pytest.approx(expected, 1e-5)


def test_bins_are_averaged_as_squares():
    """Two impulses half a window apart: twice the magnitude in even bins, nothing in odd ones."""
    one, two = impulses(2048, 512), impulses(2048, 512, 1536)
    even, odd = math.log10(4), math.log10(0.25 / 1e-8)
    expected = math.sqrt((513 * even**2 + 512 * odd**2) / 1025)
    assert float(lsd(one, two)) == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("gain", [0.1, 0.8, 1.0, 1.25, 4.0])
def test_a_gain_gives_twice_its_logarithm(gain):
    wave = noise(20_000)
    expected = 2 * abs(math.log10(gain))
    assert float(lsd(wave, gain * wave)) == pytest.approx(expected, abs=1e-4)
    assert float(lsd_ssr_eval(wave, gain * wave, 44100)) == pytest.approx(expected, abs=1e-4)
    assert float(lsd_jatsr_db(wave, gain * wave)) == pytest.approx(10 * expected, abs=1e-3)
    low, high = band_lsd(wave, gain * wave, 400)
    assert float(low) == pytest.approx(expected, abs=1e-4)
    assert float(high) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=12)
@given(
    samples=st.integers(2048, 7000),
    leading=st.lists(st.integers(1, 3), max_size=2),
    level=st.sampled_from([1e-6, 0.1, 1.0]),
)
def test_a_copy_has_no_distance_and_signals_do_not_mix(samples, leading, level):
    wave, other = noise(*leading, samples, level=level), noise(*leading, samples, seed=1)
    for form in FORMS.values():
        found = form(wave, wave)
        assert found.shape == tuple(leading)
        assert (found < 1e-5).all()  # transforms of one batch may round otherwise
        each = [form(a, b) for a, b in zip(wave.reshape(-1, samples), other.reshape(-1, samples),
                                           strict=True)]  # fmt: skip
        torch.testing.assert_close(form(wave, other).flatten(), torch.stack(each))


def test_silence_against_silence():
    """The form of ssr_eval is 12 there, by its definition: log10 of its epsilon."""
    silence = torch.zeros(5000)
    assert {name: float(form(silence, silence)) for name, form in FORMS.items()} == {
        "default": 0, "ssr_eval": 12, "jatsr": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_blocks_of_frames_do_not_show(monkeypatch, name):
    first, second = noise(2, 30_000), noise(2, 30_000, seed=1)
    whole = FORMS[name](first, second)
    monkeypatch.setattr(stft, "FRAMES_AT_ONCE", 10)
    torch.testing.assert_close(FORMS[name](first, second), whole, rtol=1e-6, atol=1e-6)


def pieces():
    original = music(1.5)[:, 0].astype(np.float32)
    random = np.random.default_rng(5)
    changed = original + 0.01 * random.standard_normal(len(original)).astype(np.float32)
    return original, changed


def test_the_default_form_against_librosa():
    first, second = pieces()
    powers = [
        np.maximum(np.abs(librosa.stft(wave.astype(np.float64), n_fft=2048, hop_length=512,
                                       window="hann", center=False)) ** 2, 1e-8)
        for wave in (first, second)
    ]  # fmt: skip
    expected = np.sqrt(((np.log10(powers[0]) - np.log10(powers[1])) ** 2).mean(0)).mean()
    found = float(lsd(torch.from_numpy(first), torch.from_numpy(second)))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("rate", "n_fft"), [(44100, 2048), (48000, 2229), (16000, 743)])
def test_the_form_of_ssr_eval_against_librosa(rate, n_fft):
    first, second = pieces()
    target, estimate = (
        np.abs(librosa.stft(wave.astype(np.float64), n_fft=n_fft, hop_length=rate // 100))
        for wave in (first, second)
    )
    gap = np.log10(target**2 / (estimate + 1e-12) ** 2 + 1e-12)
    expected = np.sqrt((gap**2).mean(0)).mean()
    found = float(lsd_ssr_eval(torch.from_numpy(first), torch.from_numpy(second), rate))
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_form_of_jatsr_against_librosa():
    first, second = pieces()
    magnitudes = [
        np.maximum(np.abs(librosa.stft(wave.astype(np.float64), n_fft=2048, hop_length=512)), 1e-8)
        for wave in (first, second)
    ]
    gap = np.log10(magnitudes[0]) - np.log10(magnitudes[1])
    expected = 20 * np.sqrt((gap**2).mean(0)).mean()
    found = float(lsd_jatsr_db(torch.from_numpy(first), torch.from_numpy(second)))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("split", [1, 400, 1024])
def test_bands_make_up_the_whole(split):
    first, second = noise(2048), noise(2048, seed=1)
    low, high = (float(value) for value in band_lsd(first, second, split))
    whole = math.sqrt((split * low**2 + (1025 - split) * high**2) / 1025)
    assert float(lsd(first, second)) == pytest.approx(whole, rel=1e-5)


def test_bands_see_their_own_half():
    time = torch.arange(44100) / 44100
    wave = noise(44100)
    whistle = wave + 0.5 * torch.sin(2 * torch.pi * 15_000 * time)
    low, high = band_lsd(wave, whistle, split_bin(10_000, 44100))
    assert float(low) < 0.02
    assert float(high) > 0.1


def test_short_clips_and_unequal_shapes_are_errors():
    short = torch.zeros(2, 2047)
    for measure in (lsd, lambda a, b: band_lsd(a, b, 5)):
        with pytest.raises(ShortClipError, match="2048 samples, found 2047"):
            measure(short, short)
    with pytest.raises(ShortClipError):
        lsd(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="shapes differ"):
        lsd(torch.zeros(1, 4000), torch.zeros(4000))
    for split in (0, 1025):
        with pytest.raises(ValueError, match="split"):
            band_lsd(torch.zeros(4000), torch.zeros(4000), split)


def test_half_precision_and_autocast_do_not_coarsen_it():
    first, second = noise(8000).bfloat16(), noise(8000, seed=1).bfloat16()
    expected = lsd(first.float(), second.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lsd(first, second) == expected


@pytest.mark.parametrize(
    ("cutoff", "split"), [(0.0, None), (10.0, 1), (4000.0, 186), (22049.0, 1024), (23000.0, None)]
)
def test_bins_begin_at_or_above_a_cutoff(cutoff, split):
    assert split_bin(cutoff, 44100) == split
    if split is not None:
        assert (split - 1) * 44100 / 2048 < cutoff <= split * 44100 / 2048
