"""Streaming magnitudes against librosa, and against themselves in other blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.stages.stft import MagnitudeStft
from shards.envelope import BINS


def magnitudes(wave: NDArray[np.float32], sizes: list[int]) -> NDArray[np.float32]:
    stft = MagnitudeStft(len(wave))
    out, start = [], 0
    for size in [*sizes, wave.shape[1]]:
        out += list(stft.push(wave[:, start : start + size]))
        start += size
    out += list(stft.flush())
    return np.concatenate(out, axis=1) if out else np.zeros((len(wave), 0, BINS), np.float32)


def noise(streams: int, samples: int, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (streams, samples)).astype(np.float32)


@pytest.mark.parametrize(
    "samples", [1, 2, 511, 512, 513, 1023, 1024, 2048, 16384, 17919, 17920, 40000, 65536]
)
def test_equals_librosa(samples: int) -> None:
    import librosa

    wave = noise(2, samples, samples)
    found = magnitudes(wave, [])
    expected = np.abs(librosa.stft(wave.astype(np.float64), pad_mode="constant"))
    assert found.shape == (2, samples // 512 + 1, BINS)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 1), rtol=1e-4, atol=2e-4)


@settings(max_examples=40)
@given(
    samples=st.integers(0, 60000),
    sizes=st.lists(st.integers(0, 20000), max_size=8),
    streams=st.integers(1, 3),
)
def test_blocks_do_not_change_a_bit(samples: int, sizes: list[int], streams: int) -> None:
    wave = noise(streams, samples, samples)
    whole = magnitudes(wave, [])
    assert np.array_equal(whole, magnitudes(wave, sizes))
    # Nor does a signal depend on its neighbours.
    assert np.array_equal(whole[:1], magnitudes(wave[:1], sizes))


def test_empty_signal_has_no_frames() -> None:
    assert magnitudes(np.zeros((2, 0), np.float32), [0, 0]).shape[1] == 0


def test_frames_come_as_soon_as_a_batch_is_there() -> None:
    stft = MagnitudeStft(1)
    wave = noise(1, 44100)
    early = sum(batch.shape[1] for batch in stft.push(wave))
    assert 86 - 32 < early <= 86


def test_batches_belong_to_the_caller() -> None:
    stft = MagnitudeStft(1)
    first, second = list(stft.push(noise(1, 40000)))[:2]
    kept = first.copy()
    second[:] = 0
    list(stft.flush())
    assert np.array_equal(first, kept)
