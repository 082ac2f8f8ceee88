"""Where an input ends, seen against its reference."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
import torch
from helpers import music

from jatsr_model.metrics import band_lsd, find_cutoff, split_bin

RATE = 44100


def tensor(wave):
    return torch.from_numpy(np.asarray(wave, np.float32))


@pytest.fixture(scope="module", params=["music", "noise"])
def original(request):
    if request.param == "music":
        return music(2.0)[:, 0].astype(np.float32)
    return (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 24000, 32000, 40000])
@pytest.mark.parametrize("bits", [None, 16])
def test_of_resamplers(original, rate, bits):
    low = soxr.resample(soxr.resample(original, RATE, rate, "VHQ"), rate, RATE, "VHQ")
    low = np.resize(low, len(original))
    if bits:
        low = np.round(low * 32768) / 32768
    found = find_cutoff(tensor(original), tensor(low), RATE)
    assert 0.93 * rate / 2 < found < 0.97 * rate / 2
    bands = band_lsd(tensor(original), tensor(low), split_bin(found, RATE))
    assert bands.low < 0.06
    assert bands.high > 1


@pytest.mark.parametrize("order", [4, 8])
def test_of_filters(original, order):
    """Butterworth: 3 dB down at its corner by definition."""
    sections = scipy.signal.butter(order, 6000, fs=RATE, output="sos")
    low = scipy.signal.sosfilt(sections, original)
    assert find_cutoff(tensor(original), tensor(low), RATE) == pytest.approx(6000, rel=0.03)


def test_of_a_lossy_file():
    """Ogg Vorbis at low quality ends far below half the rate, and not sharply."""
    wave = music(3.0)[:, 0]
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="OGG", subtype="VORBIS", compression_level=1.0)
    file.seek(0)
    low = np.resize(soundfile.read(file)[0], len(wave))
    found = find_cutoff(tensor(wave), tensor(low), RATE)
    assert found is None or found > 5000


def test_of_the_same_band_or_nothing(original):
    assert find_cutoff(tensor(original), tensor(original), RATE) is None
    assert find_cutoff(tensor(original), tensor(0.9 * original), RATE) is None
    assert find_cutoff(tensor(original), tensor(0 * original), RATE) is None
    assert find_cutoff(tensor(0 * original), tensor(original), RATE) is None
