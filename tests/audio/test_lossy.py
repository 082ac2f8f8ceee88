from __future__ import annotations

import os
import resource
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from pipeline.stages.degrade import recreate
from pipeline.stages.lossy import MP3_KBPS, Lossy
from pipeline.stages.variants import parse_lr
from shards.errors import EnvironmentFailure

RATE = 44100
# Short ones, around the frame sizes of MP3 (1152) and Opus (960 at 48 kHz), 1 s and 10 s.
LENGTHS = [1, 2, 17, 500, 881, 882, 883, 1151, 1152, 1153, 2000, 3000, 44_101, 441_000]


@lru_cache(maxsize=32)
def music(samples: int, channels: int = 1) -> np.ndarray:
    """Plucked tones and a hiss, 100 Hz to 6 kHz: tonal enough for every codec's music mode."""
    rng = np.random.default_rng(0)
    time = np.arange(max(samples, 4000)) / RATE
    tones = np.zeros((channels, len(time)))
    for start in np.arange(0, time[-1], 0.2):
        pitch = rng.choice([220, 262, 330, 392, 523])
        pluck = np.exp(-6 * np.clip(time - start, 0, None)) * (time >= start)
        for harmonic in range(1, 9):
            phase = rng.uniform(0, 6, (channels, 1))
            tones += pluck * np.sin(2 * np.pi * pitch * harmonic * time + phase) / harmonic
    signal = 0.1 * tones + 0.01 * rng.standard_normal(tones.shape)
    low = sosfiltfilt(butter(3, [100, 6000], "band", fs=RATE, output="sos"), signal)
    return low[:, :samples].astype(np.float32)


def trip(lossy: Lossy, signal: np.ndarray, scratch: Path, cuts: list[int]) -> np.ndarray:
    def parts() -> list[np.ndarray]:
        return np.split(signal, sorted(cuts), axis=1)

    lossy.prepare(iter(parts()), scratch)
    out = [lossy.push(part) for part in parts()]
    assert [part.shape for part in out] == [part.shape for part in parts()]
    out.append(lossy.flush())
    lossy.close()
    return np.concatenate(out, axis=1)


def make(spec: str) -> Lossy:
    lossy = recreate(parse_lr(spec).params("track", 0))
    assert isinstance(lossy, Lossy)
    return lossy


def delay(signal: np.ndarray, copy: np.ndarray) -> int:
    size = 2 * signal.shape[1]
    spectra = np.fft.rfft(copy[0], size) * np.conj(np.fft.rfft(signal[0], size))
    peak = int(np.fft.irfft(spectra, size).argmax())
    return peak if peak < size // 2 else peak - size


@pytest.mark.parametrize(
    "spec",
    [
        "mp3:32",
        "mp3:48",
        "mp3:64",
        "mp3:320",
        "vorbis:48",
        "vorbis:128",
        "opus:32",
        "opus:64",
        "opus:128",
    ],
)
@pytest.mark.parametrize("samples", LENGTHS)
def test_length_is_kept_and_the_copy_is_on_time(tmp_path: Path, spec: str, samples: int) -> None:
    signal = music(samples)
    copy = trip(make(spec), signal, tmp_path, [])
    assert copy.shape == signal.shape
    assert copy.dtype == np.float32
    if samples >= 2000:
        # Below 64 kbit/s Opus may choose its speech mode for these sparse sounds, see Lossy.
        assert -2 <= delay(signal, copy) <= 0 if spec == "opus:32" else delay(signal, copy) == 0
        similarity = (signal * copy).sum() / np.linalg.norm(signal) / np.linalg.norm(copy)
        assert similarity > 0.9
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kbps", MP3_KBPS)
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_is_on_time_at_every_bit_rate(tmp_path: Path, kbps: int, channels: int) -> None:
    """Below some rate the frames cannot hold the tag that tells the decoder the delay."""
    signal = music(60_000, channels)
    lossy = make(f"mp3:{kbps}")
    assert delay(signal, trip(lossy, signal, tmp_path, [])) == 0
    assert lossy.measured["kbps_measured"] == pytest.approx(kbps, rel=0.08)


def test_opus_speech_mode_is_two_samples_early_at_most(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1, 100_000)) * 0.2
    band = butter(4, [300, 3000], "band", fs=RATE, output="sos")
    signal = sosfiltfilt(band, noise).astype(np.float32)
    assert -2 <= delay(signal, trip(make("opus:24"), signal, tmp_path, [])) <= 0


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("spec", "tolerance"), [("opus:32", 0.2), ("opus:96", 0.2), ("vorbis:96", 0.35)]
)
def test_variable_bit_rates_come_near(
    tmp_path: Path, spec: str, tolerance: float, channels: int
) -> None:
    lossy = make(spec)
    trip(lossy, music(220_500, channels), tmp_path, [])
    assert not lossy.measured.keys() & lossy.params.keys()  # both go into one record
    wanted = lossy.params["kbps"]
    assert lossy.measured["kbps_measured"] == pytest.approx(wanted, rel=tolerance)


def test_lower_rates_do_more_damage(tmp_path: Path) -> None:
    signal = music(100_000)
    for codec, rates in (
        ("mp3", (32, 64, 128)),
        ("opus", (16, 48, 128)),
        ("vorbis", (48, 96, 240)),
    ):
        errors = [
            np.linalg.norm(trip(make(f"{codec}:{kbps}"), signal, tmp_path, []) - signal)
            for kbps in rates
        ]
        assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("spec", ["mp3:48", "mp3:64", "opus:48", "vorbis:64"])
def test_cutting_does_not_matter_and_runs_repeat(tmp_path: Path, spec: str) -> None:
    signal = music(70_001, 2)
    whole = trip(make(spec), signal, tmp_path, [])
    rng = np.random.default_rng(1)
    for _ in range(3):
        cuts = [0, 1, *rng.integers(0, 70_001, 12).tolist()]
        np.testing.assert_array_equal(trip(make(spec), signal, tmp_path, cuts), whole)


@pytest.mark.parametrize("spec", ["mp3:64", "opus:48", "vorbis:64"])
def test_silence_and_nothing(tmp_path: Path, spec: str) -> None:
    silence = trip(make(spec), np.zeros((1, 30_000), np.float32), tmp_path, [])
    assert np.abs(silence).max() < 1e-3
    assert trip(make(spec), np.zeros((1, 0), np.float32), tmp_path, []).shape == (1, 0)


def test_peaks_above_full_scale_are_not_clipped(tmp_path: Path) -> None:
    signal = music(30_000) / np.abs(music(30_000)).max()
    for spec in ("mp3:128", "vorbis:128", "opus:128"):
        copy = trip(make(spec), signal, tmp_path, [])
        assert np.abs(copy).max() == pytest.approx(1.0, abs=0.2)


def test_use_without_preparation_is_refused() -> None:
    with pytest.raises(ValueError, match="prepared"):
        make("mp3:64").push(music(100))


@pytest.mark.parametrize("spec", ["mp3:320", "opus:256", "vorbis:240"])
def test_a_full_disk_stops_the_run(tmp_path: Path, spec: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(EnvironmentFailure, match="temporary"):
            make(spec).prepare(iter([music(200_000)]), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_a_missing_scratch_folder_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="gone"):
        make("mp3:64").prepare(iter([music(100)]), tmp_path / "gone")
