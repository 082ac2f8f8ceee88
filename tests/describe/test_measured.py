"""Tempo, key and words against audio whose tempo and key are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.captions import MeasuredDescriber, Measurements
from pipeline.captions.measured import SAMPLE_RATE as RATE

Wave = NDArray[np.float32]
NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")


def measure(wave: Wave, block: int = 65536, lufs: float | None = None) -> Measurements:
    describer = MeasuredDescriber()
    for start in range(0, len(wave), block):
        describer.push(wave[start : start + block])
    return describer.result(lufs)


def clicks(bpm: float, seconds: float = 15.0) -> Wave:
    generator = np.random.default_rng(int(bpm * 10))
    wave = np.zeros(int(seconds * RATE))
    for beat in np.arange(0.25, seconds - 0.1, 60 / bpm):
        at = int(beat * RATE)
        wave[at : at + 900] += generator.standard_normal(900) * np.exp(-np.arange(900) / 150)
    return (0.4 * wave).astype(np.float32)


def chords(tonic: int, minor: bool, cents: float = 0.0) -> Wave:
    """I IV V I, three times, a second each, with six partials per note."""
    third = 3 if minor else 4
    time = np.arange(RATE) / RATE
    fade = np.minimum(1.0, 50 * np.minimum(time, 1 - time))
    parts = []
    for notes in [(0, third, 7), (5, 5 + third, 12), (7, 11, 14), (0, third, 7)] * 3:
        pitches = [48 + tonic + note + cents / 100 for note in notes]
        hertz = [440 * 2 ** ((pitch - 69) / 12) for pitch in pitches]
        parts.append(
            sum(np.sin(2 * np.pi * f * k * time) / k for f in hertz for k in range(1, 7)) * fade
        )
    return (0.08 * np.concatenate(parts)).astype(np.float32)


def noise(seconds: float, level: float = 0.1) -> Wave:
    generator = np.random.default_rng(int(seconds))
    return (level * generator.standard_normal(int(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize("bpm", [60, 67, 72.5, 83.3, 90, 100, 110, 120, 128, 140, 150])
def test_tempo_of_clicks(bpm: float) -> None:
    found = measure(clicks(bpm))
    assert found.tempo_bpm == pytest.approx(bpm, rel=0.01)
    assert found.tempo_confidence > 0.7


@pytest.mark.parametrize("bpm", [160, 172, 180])
def test_fast_clicks_may_be_read_an_octave_lower(bpm: float) -> None:
    """Every second click of a fast train is as regular: the prior prefers the slower reading."""
    found = measure(clicks(bpm)).tempo_bpm
    assert found is not None
    assert min(abs(found / bpm - 1), abs(2 * found / bpm - 1)) < 0.01


@pytest.mark.parametrize("minor", [False, True])
@pytest.mark.parametrize("tonic", [0, 1, 3, 6, 9, 10])
def test_key_of_chords_in_any_tuning(tonic: int, minor: bool) -> None:
    found = measure(chords(tonic, minor, cents=30.0 * (tonic % 3 - 1)))
    assert found.key == f"{NAMES[tonic]} {'minor' if minor else 'major'}"
    assert found.key_confidence > 0.6


@pytest.mark.parametrize("seconds", [1, 5, 10, 25])
def test_noise_has_neither_tempo_nor_key(seconds: float) -> None:
    found = measure(noise(seconds))
    assert (found.tempo_bpm, found.key) == (None, None)
    assert max(found.tempo_confidence, found.key_confidence) < 0.3
    assert found.brightness > 0.95


def test_steady_tone_has_neither() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 441.3 * np.arange(10 * RATE) / RATE)
    found = measure(tone.astype(np.float32))
    assert (found.tempo_bpm, found.key) == (None, None)


@pytest.mark.parametrize("samples", [0, 1, 1000, 5 * RATE])
def test_silence_says_nothing(samples: int) -> None:
    found = measure(np.zeros(samples, np.float32), lufs=-100.0)
    assert found == Measurements(None, 0.0, None, 0.0, -100.0, 0.0)
    assert found.sentence() == ""


def test_rounding_noise_is_not_music() -> None:
    found = measure(np.round(noise(8, 0.5)).astype(np.float32) / 32768)
    assert (found.tempo_bpm, found.key) == (None, None)


def test_blocks_do_not_matter() -> None:
    wave = (clicks(96)[: 12 * RATE] + chords(2, True)).astype(np.float32)
    whole = measure(wave, len(wave))
    assert whole.key == "D minor"
    assert whole.tempo_bpm == pytest.approx(96, rel=0.02)
    assert measure(wave, 1013) == measure(wave, 65536) == whole


def test_memory_does_not_grow() -> None:
    describer = MeasuredDescriber()
    block = noise(1)
    sizes = []
    for _ in range(60):
        describer.push(block)
        state = [*vars(describer._tempo).values(), *vars(describer._key).values()]
        sizes.append(sum(part.nbytes for part in state if isinstance(part, np.ndarray)))
    assert max(sizes[30:]) <= max(sizes[:30])


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (
            Measurements(72.3, 0.8, "A minor", 0.7, -30.0, 0.1),
            "A slow, dark and quiet piece in A minor at about 72 beats per minute.",
        ),
        (
            Measurements(150.0, 0.8, None, 0.1, -8.0, 0.3),
            "A fast and loud piece at about 150 beats per minute.",
        ),
        (Measurements(100.0, 0.8, "C major", 0.7, None, 0.4),
         "A piece in C major at about 100 beats per minute."),
        (Measurements(None, 0.1, None, 0.1, -18.0, 0.7), "A bright piece."),
        (Measurements(None, 0.1, None, 0.1, -18.0, 0.4), ""),
        (Measurements(None, 0.0, None, 0.0, None, 0.0), ""),
    ],
)  # fmt: skip
def test_sentences(facts: Measurements, text: str) -> None:
    assert facts.sentence() == text


@given(st.floats(40, 220), st.floats(-70, 0), st.floats(0.001, 0.999))
def test_words_follow_the_numbers(bpm: float, lufs: float, brightness: float) -> None:
    text = Measurements(bpm, 0.5, None, 0.0, lufs, brightness).sentence()
    assert text.startswith("A ")
    assert text.endswith(f"at about {round(bpm)} beats per minute.")
    assert not ("slow" in text and "fast" in text)
    assert not ("dark" in text and "bright" in text)
    assert not ("quiet" in text and "loud" in text)
