"""Mel spectra: the filters are librosa's, the reference is absolute."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from helpers import music

from jatsr_model.metrics import ShortClipError, mel_distance, multi_scale_mel
from jatsr_model.metrics.mel import SCALES, mel_filters


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("scale", SCALES)
def test_the_filters_are_those_of_librosa(rate, scale):
    expected = librosa.filters.mel(sr=rate, n_fft=scale.stft.n_fft, n_mels=scale.bands,
                                   dtype=np.float64)  # fmt: skip
    found = mel_filters(rate, scale.stft.n_fft, scale.bands)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (found.sum(1) > 0).all()


def test_distances_against_librosa():
    first = music(1.0)[:, 0].astype(np.float32)
    second = music(1.0, seed=1)[:, 0].astype(np.float32)

    def decibels(wave, scale):
        mel = librosa.feature.melspectrogram(
            y=wave, sr=44100, n_fft=scale.stft.n_fft, hop_length=scale.stft.hop,
            n_mels=scale.bands, center=False,
        )  # fmt: skip
        return librosa.power_to_db(mel, ref=1.0, amin=1e-10, top_db=None)

    both = torch.from_numpy(first), torch.from_numpy(second)
    means = []
    for scale in SCALES:
        gap = decibels(first, scale) - decibels(second, scale)
        found = mel_distance(*both, 44100, scale)
        assert float(found.l1) == pytest.approx(np.abs(gap).mean(), rel=1e-4)
        assert float(found.l2) == pytest.approx(np.sqrt((gap**2).mean()), rel=1e-4)
        means.append(np.abs(gap).mean())
    assert float(multi_scale_mel(*both, 44100)) == pytest.approx(np.mean(means), rel=1e-4)


@pytest.mark.parametrize("channels", [(), (1,), (2, 3)])
def test_a_quieter_copy_is_not_a_copy(channels):
    wave = 0.3 * torch.randn(*channels, 6000, generator=torch.Generator().manual_seed(0))
    assert (mel_distance(wave, wave, 44100).l1 == 0).all()
    quiet = mel_distance(wave, 0.1 * wave, 44100)
    assert quiet.l1.shape == channels
    torch.testing.assert_close(quiet.l1, torch.full(channels, 20.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(quiet.l2, torch.full(channels, 20.0), rtol=1e-4, atol=0)
    assert (multi_scale_mel(wave, 0.1 * wave, 44100) > 19.9).all()


def test_short_clips_are_errors():
    with pytest.raises(ShortClipError):
        multi_scale_mel(torch.zeros(2000), torch.zeros(2000), 44100)
