"""Roll-off against a direct scan of librosa's transform, excerpt by excerpt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from pipeline.stages.describe import Describer, ExcerptDescription
from shards.envelope import BINS, COLUMNS, blocks_of, rolloff


def describe(
    wave: NDArray[np.float32], excerpt: int, sizes: tuple[int, ...] = ()
) -> list[ExcerptDescription]:
    describer = Describer(wave.shape[0], excerpt)
    out, start = [], 0
    for size in (*sizes, wave.shape[-1]):
        out += describer.push(wave[..., start : start + size])
        start += size
    return out + describer.flush(-(-wave.shape[-1] // 512))


def scanned(magnitudes: NDArray[np.float64]) -> float:
    """The definition, as a scan from the top: ``[BINS, frames]`` -> roll-off."""
    total = magnitudes.sum()
    running = np.cumsum(magnitudes.sum(axis=1))
    for index in range(BINS - 1, 0, -1):
        if running[index] < 0.985 * total:
            return index / BINS
    return 0.0


def noises(samples: int, seed: int) -> NDArray[np.float32]:
    """``[streams 3, channels 2, samples]`` noise of three bandwidths."""
    generator = np.random.default_rng(seed)
    wide = generator.standard_normal((2, samples)) * 0.2
    shaped = [
        signal.sosfilt(signal.butter(6, cutoff, fs=44100, output="sos"), wide)
        for cutoff in (15000, 4000, 700)
    ]
    return np.array(shaped, np.float32)


@pytest.mark.parametrize("samples", [3000, 100 * 512, 100 * 512 + 1, 130_001])
@pytest.mark.parametrize("excerpt", [50, 97, 1000])
def test_equals_librosa_scan_exactly(samples: int, excerpt: int) -> None:
    import librosa

    wave = noises(samples, samples)
    mono = np.stack([librosa.to_mono(stream) for stream in wave])
    exact = np.abs(librosa.stft(mono.astype(np.float64), pad_mode="constant"))
    frames = -(-samples // 512)
    found = describe(wave, excerpt)
    assert [item.index for item in found] == list(range(-(-frames // excerpt)))
    for item in found:
        last = item.index == len(found) - 1
        end = None if last else (item.index + 1) * excerpt
        for stream, value in enumerate(item.rolloff):
            own = exact[stream][:, item.index * excerpt : end]
            assert round(value * BINS) == round(scanned(own) * BINS)
        own_frames = min(excerpt, frames - item.index * excerpt)
        assert item.spectrum.shape == (3, BINS)
        assert item.bands.shape == (3, blocks_of(own_frames), COLUMNS)


@settings(max_examples=25)
@given(
    samples=st.integers(0, 70000),
    excerpt=st.integers(1, 150),
    sizes=st.lists(st.integers(0, 30000), max_size=6),
)
def test_blocks_do_not_change_a_bit(samples: int, excerpt: int, sizes: list[int]) -> None:
    wave = np.random.default_rng(samples).uniform(-1, 1, (2, 2, samples)).astype(np.float32)
    one, other = describe(wave, excerpt), describe(wave, excerpt, tuple(sizes))
    frames = -(-samples // 512)
    assert len(one) == -(-frames // excerpt)
    for left, right in zip(one, other, strict=True):
        assert (left.index, left.rolloff) == (right.index, right.rolloff)
        assert np.array_equal(left.spectrum, right.spectrum)
        assert np.array_equal(left.bands, right.bands)


def test_rolloff_of_known_spectra() -> None:
    assert rolloff(np.zeros(BINS)) == 0.0
    one = np.zeros(BINS)
    one[300] = 2.0
    assert rolloff(one) == 299 / BINS  # the last bin below the share is the one before the tone
    assert rolloff(np.eye(1, BINS)[0]) == 0.0
    # Flat: 1010 / 1025 = 0.98537 is the first share not below 0.985, bin 1008 holds 1009 / 1025.
    assert rolloff(np.ones(BINS)) == 1008 / BINS


@given(st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_rolloff_ignores_level(level: float, seed: int) -> None:
    spectrum = np.random.default_rng(seed).random(BINS)
    assert abs(rolloff(spectrum) - rolloff(spectrum * level)) <= 1 / BINS


def test_silence_and_a_silent_stream() -> None:
    wave = np.zeros((2, 1, 60000), np.float32)
    wave[1] = np.random.default_rng(0).uniform(-1, 1, 60000)
    for item in describe(wave, 40):
        assert item.rolloff[0] == 0.0
        assert not item.spectrum[0].any()
        assert not item.bands[0].any()
        assert item.rolloff[1] > 0.9


def test_wrong_total_is_refused() -> None:
    describer = Describer(1, 10)
    describer.push(np.zeros((1, 1, 513), np.float32))
    with pytest.raises(ValueError, match="513 samples"):
        describer.flush(1)
