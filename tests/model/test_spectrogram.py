"""Pictures of sound: what is bright where, and where the marks are."""

from __future__ import annotations

import numpy as np
import pytest

from jatsr_model.spectrogram import COLUMNS, RANGE_DB, ROWS, Panel, picture, power_map

RATE = 44100


def tone(hertz, seconds=1.0, amplitude=1.0):
    time = np.arange(int(seconds * RATE)) / RATE
    return amplitude * np.sin(2 * np.pi * hertz * time)


@pytest.mark.parametrize("hertz", [500.0, 5000.0, 21000.0])
@pytest.mark.parametrize("seconds", [0.02, 0.7, 45.0])
def test_a_tone_is_a_line_at_its_frequency(hertz, seconds):
    power = power_map(tone(hertz, seconds)[None])
    assert power.shape == (ROWS, COLUMNS)
    assert np.abs(power.argmax(axis=0) - hertz / (RATE / 2) * ROWS).max() <= 1


def test_time_runs_over_the_whole_width():
    wave = np.concatenate([tone(1000), 0 * tone(1000, 3), tone(8000)])
    low, high = power_map(wave[None])[[11, 92]]  # rows of the two frequencies
    loud = low.max() / 100
    assert (low[: COLUMNS // 5 - 10] > loud).all()
    assert (low[COLUMNS // 5 + 10 :] < loud).all()
    assert (high[4 * COLUMNS // 5 + 10 :] > loud).all()


def test_long_signals_are_averaged_not_sampled():
    """A click of 1 ms in ten minutes would be missed by one transform per column."""
    wave = np.zeros((1, 600 * RATE), np.float32)
    wave[0, 123 * RATE : 123 * RATE + 44] = 1.0
    lit = np.flatnonzero(power_map(wave).max(axis=0) > 0)
    assert len(lit) > 0
    assert np.abs(lit - 123 / 600 * COLUMNS).max() <= 1


def test_channels_are_averaged():
    left = tone(3000)
    both = power_map(np.stack([left, 0 * left]))
    np.testing.assert_allclose(both, power_map(left[None]) / 2)


def test_panels_share_one_scale():
    def brightest(image):
        return int(np.asarray(image.convert("L"), int)[30 : 30 + ROWS - 20, 60:COLUMNS].max())

    quiet, loud = Panel(tone(4000, amplitude=0.01)[None], "quiet"), Panel(tone(4000)[None], "loud")
    alone, beside = brightest(picture([quiet], RATE)), brightest(picture([quiet, loud], RATE))
    assert alone > 240  # the loudest point of the picture is nearly white
    assert 0 < beside < alone - 255 * 20 / RANGE_DB


@pytest.mark.parametrize("samples", [0, 1, 300, 5000])
def test_silence_and_short_signals_are_pictures_too(samples):
    image = picture([Panel(np.zeros((1, samples)), "nothing", {"roll-off 0 kHz": 0.0})], RATE)
    assert image.size[0] > COLUMNS
    inside = np.asarray(image.convert("L"))[30 : 30 + ROWS - 40, 60 : COLUMNS - 200]
    assert inside.max() < 10


def test_a_mark_is_drawn_at_its_frequency():
    wave = np.zeros((1, 5000))
    plain, marked = (
        np.asarray(picture([Panel(wave, "", marks)], RATE), int)
        for marks in ({}, {"here": RATE / 4}, )
    )  # fmt: skip
    changed = np.abs(plain - marked).sum(axis=(1, 2))
    line = int(changed.argmax())
    top = 24
    assert abs(line - (top + ROWS / 2)) <= 1
    assert np.flatnonzero(changed).min() > line - 20  # the label is beside its line
