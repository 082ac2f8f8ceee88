"""``jatsr inspect``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf
import soxr
from click.testing import CliRunner
from PIL import Image
from sounds import cut, degraded, tilted

from jatsr_model.commands.inspect import inspect
from jatsr_model.upsampling.inspection import Meter, inspect_file
from jatsr_model.upsampling.requests import window_rolloff


def run(*arguments):
    return CliRunner().invoke(inspect, [str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path):
    wide = 0.5 * tilted(2, 4.5, channels=2)
    low = degraded(wide, "sinc:16000", tmp_path)
    low[:, 22_050:44_100] = 0
    for name, signal in (("wide.flac", wide), ("low.wav", low), ("no thing.wav", 0 * wide)):
        sf.write(tmp_path / name, signal.T, 44100, subtype="PCM_16")
    return [tmp_path / name for name in ("wide.flac", "low.wav", "no thing.wav")]


def test_facts(files):
    result = run(*files, "--json")
    assert result.exit_code == 0
    wide, low, nothing = json.loads(result.output)
    assert (wide["bandwidth"], low["bandwidth"], nothing["bandwidth"]) == (
        "full",
        "limited",
        "silent",
    )
    assert low["bandwidth_hz"] == pytest.approx(7700, rel=0.02)
    assert low["solid_hz"] <= low["bandwidth_hz"]
    assert low["silent_seconds"] == pytest.approx(0.5, abs=0.01)
    assert nothing["silent_seconds"] == nothing["leading_silence_seconds"] == 2
    assert wide["silent_seconds"] == 0
    assert (wide["rate"], wide["channels"], wide["samples"], wide["seconds"]) == (
        44100,
        2,
        88200,
        2,
    )
    assert (wide["container"], wide["coding"]) == ("FLAC", "PCM_16")
    assert nothing["loudness_lufs"] is nothing["peak_dbfs"] is None
    # Two channels of rms 0.05 each, most of it in the middle of the K-weighting curve.
    assert wide["loudness_lufs"] == pytest.approx(-24, abs=3)
    assert wide["rms_dbfs"] == pytest.approx(-26.0, abs=0.1)


def test_roll_offs_are_those_that_models_are_told(files):
    wide, low, nothing = json.loads(run(*files, "--json").output)
    for row, file in ((wide, files[0]), (low, files[1])):
        wave = sf.read(file, dtype="float32")[0].T
        assert row["rolloff_hz"] == pytest.approx(22_050 * window_rolloff(wave), rel=0.05)
    assert low["rolloff_hz"] < 7700 < wide["rolloff_hz"]
    assert nothing["rolloff_hz"] == 0


def test_roll_offs_do_not_hear_what_models_do_not(tmp_path):
    """Ultrasound, as converters leave it in files of high rates."""
    wave = 0.5 * tilted(2, 4.5, channels=1)
    high = soxr.resample(wave.T, 44_100, 96_000, "VHQ")
    hertz = np.fft.rfftfreq(len(high), 1 / 96_000)[:, None]
    noise = np.fft.rfft(np.random.default_rng(0).standard_normal(high.shape), axis=0)
    high += 0.05 * np.fft.irfft(noise * (hertz > 25_000), len(high), axis=0)
    sf.write(tmp_path / "a.wav", wave.T, 44_100, subtype="FLOAT")
    sf.write(tmp_path / "b.wav", high, 96_000, subtype="FLOAT")
    rows = json.loads(run(tmp_path / "a.wav", tmp_path / "b.wav", "--json").output)
    assert rows[1]["rolloff_hz"] == pytest.approx(rows[0]["rolloff_hz"], rel=0.06)


def test_table(files):
    lines = run(*files).output.splitlines()
    assert len(lines) == 4
    assert len({line.index("PCM_16") for line in lines[1:]} | {lines[0].index("coding")}) >= 2
    assert "roll-off" in lines[0]
    assert "7.6" in lines[2]
    assert "limited" in lines[2]
    assert "silent" in lines[3]
    assert "0:02.00" in lines[1]


def test_bad_files_do_not_take_the_others_down(files, tmp_path):
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    for flags in ([], ["--json"]):
        result = run(
            files[0], tmp_path / "x.wav", tmp_path, tmp_path / "missing.mp3", files[1], *flags
        )
        assert result.exit_code == 1
        assert "limited" in result.output
        assert "x.wav" in result.output
    rows = json.loads(result.output)
    assert ["error" in row for row in rows] == [False, True, True, True, False]
    assert all(row["error"] and row["hint"] for row in rows[1:4])


def test_pictures(files, tmp_path):
    result = run(*files, "--pictures", tmp_path / "made" / "here")
    assert result.exit_code == 0
    found = sorted(path.name for path in (tmp_path / "made" / "here").iterdir())
    assert found == ["00_wide.png", "01_low.png", "02_no thing.png"]
    wide, low = (np.asarray(Image.open(tmp_path / "made" / "here" / name)) for name in found[:2])
    mark = (np.abs(low.astype(int) - (120, 255, 235)).sum(axis=-1) < 10).sum(axis=1)
    assert mark.max() > 200  # a dashed line across the picture
    row = mark.argmax()
    assert abs((24 + 256 - row) / 256 * 22050 - 7700) < 200
    assert (np.abs(wide.astype(int) - (120, 255, 235)).sum(axis=-1) < 10).sum() < 50


def test_pictures_cannot_be_written(files, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    result = run(files[0], "--pictures", tmp_path / "file" / "here")
    assert "--pictures" in str(result.exception)


def test_facts_do_not_depend_on_blocks():
    signal = tilted(2, 4.5, channels=6)
    whole, parts = Meter(44100, 6), Meter(44100, 6)
    whole.push(signal)
    for block in cut(signal, [1, 2, 30_000, 70_000]):
        parts.push(block)
    assert whole.result() == parts.result()


def test_surrounds_weigh_more_and_low_frequency_effects_nothing():
    tone = np.sin(2 * np.pi * 997 * np.arange(3 * 48000) / 48000).astype(np.float32) / 10
    levels = {}
    for channel in range(6):
        meter = Meter(48000, 6)
        signal = np.zeros((6, len(tone)), np.float32)
        signal[channel] = tone
        meter.push(signal)
        levels[channel] = meter.result().loudness.lufs
    assert levels[0] == pytest.approx(-23.0, abs=0.05)  # BS.1770: 997 Hz at 0 dBFS is -3.01
    assert levels[1] == levels[2] == levels[0]
    assert levels[4] == pytest.approx(levels[0] + 10 * np.log10(1.41), abs=0.01)
    assert levels[3] == -np.inf


def test_keeping_the_start(files):
    whole = sf.read(files[0], dtype="float32")[0].T
    np.testing.assert_array_equal(inspect_file(files[0], 0.7).start, whole[:, :30_870])
    assert inspect_file(files[0]).start.shape == (2, 0)
    assert inspect_file(files[0], 99).start.shape == whole.shape
