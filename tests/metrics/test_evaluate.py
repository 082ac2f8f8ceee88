"""``jatsr evaluate``: what is compared, what is said of it, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
import math
import sys

import numpy as np
import pytest
import soundfile
import soxr
from evaluate_runs import run
from helpers import music
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jatsr_model.metrics.evaluation import Evaluation, Pending
from jatsr_model.metrics.measure import Extras
from jatsr_model.metrics.names import METRICS
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.sounds import Case, Sound
from shards.errors import ConfigError, EnvironmentFailure

RATE = 44100


def lowered(wave, rate=16000):
    low = soxr.resample(soxr.resample(wave, RATE, rate, "VHQ"), rate, RATE, "VHQ")
    return np.resize(low, wave.shape)


def write(path, wave, rate=RATE, subtype="FLOAT"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three clips, noisy estimates of them, and their inputs at 16 kHz."""
    root = tmp_path_factory.mktemp("evaluate")
    for seed, name in enumerate(["a", "b", "sub/c"]):
        wave = music(0.6 + 0.2 * seed, seed)
        estimate = wave + 0.01 * np.random.default_rng(seed).standard_normal(wave.shape)
        write(root / "r" / f"{name}.wav", wave)
        write(root / "e" / f"{name}.wav", estimate)
        write(root / "l" / f"{name}.wav", lowered(wave))
    return root


def compare(reference, estimate, *arguments, code=0):
    done = run("--reference", reference, "--estimate", estimate, "--json", *arguments, code=code)
    return json.loads(done.stdout)


def only(facts):
    (row,) = facts["files"]
    return row


def test_a_copy_is_at_every_floor(corpus):
    facts = compare(corpus / "r", corpus / "r", "--low", corpus / "l")
    assert [row["name"] for row in facts["files"]] == ["a", "b", "sub/c"]
    for row in facts["files"]:
        found = row["metrics"]["estimate"]
        assert found["si_sdr_db"] == pytest.approx(100, abs=0.1)
        assert found["lsd_ssr_eval"] < 1e-6
        zero = {key for key in found if key not in ("si_sdr_db", "lsd_ssr_eval", "visqol")}
        assert {found[key] for key in zero} == {0}
        assert not row["notes"]
    assert facts["means"]["estimate"]["lsd"] == {"mean": 0, "low": 0, "high": 0, "files": 3}


def test_the_input_beside_the_estimate_is_measured_like_an_estimate(corpus):
    beside = compare(corpus / "r", corpus / "e", "--low", corpus / "l")
    for first, second in zip(
        beside["files"],
        compare(corpus / "r", corpus / "l", "--cutoff", "7600")["files"],
        strict=True,
    ):
        assert 7400 < first["cutoff_hz"] < 7800
        for key in ("lsd", "mel_l1_db", "si_sdr_db", "lsd_jatsr_db"):
            assert first["metrics"]["input"][key] == second["metrics"]["estimate"][key]
        assert first["metrics"]["input"]["lsd_lf"] < 0.06
        assert first["metrics"]["input"]["lsd_hf"] > first["metrics"]["estimate"]["lsd_hf"]
    for values in beside["means"].values():
        mean = values["lsd"]
        assert mean["low"] < mean["mean"] < mean["high"]
    each = [row["metrics"]["estimate"]["lsd"] for row in beside["files"]]
    assert beside["means"]["estimate"]["lsd"]["mean"] == pytest.approx(np.mean(each))


def test_without_a_cutoff_bands_are_left_out(corpus):
    row = compare(corpus / "r", corpus / "e")["files"][0]
    assert row["cutoff_hz"] is None
    assert row["metrics"]["estimate"]["lsd_hf"] is None
    assert row["metrics"]["estimate"]["lsd"] > 0
    text = run("--reference", corpus / "r", "--estimate", corpus / "e").stdout
    assert "give --low or --cutoff" in text
    row = compare(corpus / "r", corpus / "e", "--cutoff", "5000")["files"][0]
    assert row["cutoff_hz"] == 5000
    assert row["metrics"]["estimate"]["lsd_hf"] > 0


def test_the_table_says_what_was_fixed_and_what_is_missing(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "visqol", None)
    text = run(
        "--reference", corpus / "r", "--estimate", corpus / "e", "--low", corpus / "l"
    ).stdout
    for expected in ("44100 Hz", "n_fft 2048, hop 512", "power floor 1e-08", "float32", "sub/c",
                     "LSD-HF", "input", "[", "visqol: not installed", "3 files"):  # fmt: skip
        assert expected in text, expected
    assert text == run("--reference", corpus / "r", "--estimate", corpus / "e", "--low",
                       corpus / "l").stdout  # fmt: skip


def test_csv_holds_what_json_holds(corpus):
    arguments = ("--reference", corpus / "r", "--estimate", corpus / "e", "--low", corpus / "l")
    facts = json.loads(run(*arguments, "--json").stdout)
    lines = list(csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout)))
    assert [(line["name"], line["candidate"]) for line in lines] == [
        (row["name"], candidate) for row in facts["files"] for candidate in ("estimate", "input")
    ]
    for line in lines:
        row = next(row for row in facts["files"] if row["name"] == line["name"])
        for metric in METRICS:
            value = row["metrics"][line["candidate"]][metric.key]
            assert line[metric.key] == ("" if value is None else repr(value))
        assert json.loads(line["settings"]) == facts["settings"]
    with pytest.raises(ConfigError, match="--csv"):
        run(*arguments, "--json", "--csv")


def test_a_missing_partner_is_a_failure_unless_it_is_allowed(corpus, tmp_path):
    write(tmp_path / "e" / "a.wav", music(0.6))
    facts = compare(corpus / "r", tmp_path / "e", code=1)
    assert [item["name"] for item in facts["missing"]] == ["b", "sub/c"]
    assert only(facts)["name"] == "a"
    compare(corpus / "r", tmp_path / "e", "--allow-missing")
    done = run("--reference", corpus / "r", "--estimate", tmp_path / "e", code=1)
    assert "--estimate: nothing there for" in done.stderr


def test_bad_files_are_rows_that_say_why(tmp_path):
    wave = music(0.3)
    bad = wave.copy()
    bad[100, 1] = np.nan
    estimates = {"nan": bad, "short": wave[:2000], "empty": wave[:0], "good": wave}
    for name, estimate in estimates.items():
        write(tmp_path / "r" / f"{name}.wav", wave)
        write(tmp_path / "e" / f"{name}.wav", estimate)
    write(tmp_path / "r" / "text.wav", wave)
    (tmp_path / "e" / "text.wav").write_bytes(b"dear diary")
    facts = compare(tmp_path / "r", tmp_path / "e", "--allow-missing", code=1)
    problems = {row["name"]: row["problem"] for row in facts["files"]}
    assert problems.pop("good") is None
    for name, words in {
        "nan": "finite samples", "short": "2048 samples, found 2000", "empty": "no samples",
        "text": "expected audio",
    }.items():  # fmt: skip
        assert words in problems.pop(name)
    assert not problems
    assert facts["means"]["estimate"]["lsd"]["files"] == 1
    text = run("--reference", tmp_path / "r", "--estimate", tmp_path / "e", code=1).stdout
    assert "text: FAILED" in text
    assert "1 of 5 files compared" in text


@pytest.mark.parametrize(
    ("estimate", "rate", "subtype", "words"),
    [
        (lambda w: 0.5 * w, RATE, "FLOAT", "6.0 dB quieter"),
        (lambda w: w[:-100], RATE, "FLOAT", "100 samples (0.002 s) shorter"),
        (
            lambda w: soxr.resample(w, RATE, 48000),
            48000,
            "FLOAT",
            "resampled to 44100 Hz: estimate",
        ),
        (lambda w: soxr.resample(w, RATE, 48000), 48000, "FLOAT", "has 48000 Hz, the reference"),
        (lambda w: w[:, :1], RATE, "FLOAT", "1 channel, the reference 2"),
        (lambda w: w, RATE, "PCM_16", "PCM_16, the reference FLOAT"),
    ],
)
def test_what_differs_is_said(tmp_path, estimate, rate, subtype, words):
    wave = music(0.5)
    reference = write(tmp_path / "r.wav", wave)
    path = write(tmp_path / "e.wav", estimate(wave), rate, subtype)
    row = only(compare(reference, path))
    assert any(words in note for note in row["notes"]), row["notes"]
    assert row["sounds"]["estimate"]["rate"] == rate
    assert not only(compare(reference, reference))["notes"]


def test_rounding_decides_the_distance_of_an_empty_band_and_can_be_fixed(tmp_path):
    wave = np.random.default_rng(0).standard_normal(RATE) * 0.05
    reference = write(tmp_path / "r.wav", wave)
    exact = write(tmp_path / "f.wav", lowered(wave, 8000))
    rounded = write(tmp_path / "i.wav", lowered(wave, 8000), subtype="PCM_16")
    found = {
        (path, bits): only(compare(reference, path, "--bits", bits))["metrics"]["estimate"]["lsd"]
        for path in (exact, rounded)
        for bits in ("float", "16")
    }
    assert found[exact, "float"] > found[rounded, "float"] + 0.5
    assert found[exact, "16"] == pytest.approx(found[rounded, "16"], rel=5e-3)


def test_a_clip_is_taken_from_the_middle(tmp_path):
    wave = music(2.0)
    damaged = wave.copy()
    damaged[: RATE // 2] = 0
    damaged[-RATE // 2 :] = 0
    reference, estimate = write(tmp_path / "r.wav", wave), write(tmp_path / "e.wav", damaged)
    lsd = {
        seconds: only(compare(reference, estimate, "--clip-seconds", seconds))
        for seconds in (0.9, 1.5, 60)
    }
    found = {k: row["metrics"]["estimate"]["lsd"] for k, row in lsd.items()}
    assert found[0.9] == 0 < found[1.5] < found[60]
    short = [any("less than a clip" in note for note in row["notes"]) for row in lsd.values()]
    assert short == [False, False, True]


def test_pictures(corpus, tmp_path):
    arguments = ("--reference", corpus / "r", "--estimate", corpus / "e", "--low", corpus / "l")
    run(*arguments, "--pictures", tmp_path / "p")
    found = sorted(path.relative_to(tmp_path / "p").as_posix() for path in tmp_path.rglob("*.png"))
    assert found == ["a.png", "b.png", "sub/c.png"]
    with Image.open(tmp_path / "p" / "a.png") as image:
        three = image.size[1]
    files = ("--reference", corpus / "r" / "a.wav", "--estimate", corpus / "e" / "a.wav")
    run(*files, "--pictures", tmp_path / "q")
    with Image.open(tmp_path / "q" / "a.png") as image:
        assert image.size[1] * 3 == three * 2
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="--pictures"):
        run(*files, "--pictures", tmp_path / "file" / "p")


@pytest.mark.parametrize(
    ("option", "value"), [("--cutoff", "0"), ("--cutoff", "22050"), ("--clip-seconds", "0.01")]
)
def test_settings_that_cannot_work_are_named(corpus, option, value):
    with pytest.raises(ConfigError, match=option):
        compare(corpus / "r", corpus / "e", option, value)


NO_EXTRAS = Extras("not here", "not here")


def sound(channels, samples, rate, seed=0):
    random = np.random.default_rng(seed)
    return Sound((0.1 * random.standard_normal((channels, samples))).astype(np.float32), rate)


@settings(max_examples=10)
@given(
    channels=st.integers(1, 8),
    samples=st.integers(4096, 9000),
    rate=st.sampled_from([22050, 32000, 44100, 48000]),
)
def test_any_length_channels_and_rate(channels, samples, rate):
    """A copy is a copy; another signal is not; all that is reported is a number or nothing."""
    reference = sound(channels, samples, rate)
    other = sound(1, samples + 100, 48000, seed=1)
    case = Case("x", reference, {"copy": reference, "other": other}, cutoff=4000)
    evaluation = Evaluation(Settings(), NO_EXTRAS)
    (row,) = evaluation.run([Pending("x", lambda: case)])
    assert row.values["copy"]["lsd"] == 0
    assert row.values["other"]["lsd"] > 0.1
    for values in row.values.values():
        assert all(value is None or math.isfinite(value) for value in values.values())
    json.dumps(evaluation.report().means, allow_nan=False)


def test_silence_is_compared_without_inventing_numbers():
    silence = Sound(np.zeros((1, 44100), np.float32), 44100)
    case = Case("x", silence, {"same": silence, "noise": sound(1, 44100, 44100)}, cutoff=8000)
    (row,) = Evaluation(Settings(), NO_EXTRAS).run([Pending("x", lambda: case)])
    assert row.values["same"]["lsd"] == 0
    assert row.values["noise"]["lsd"] > 5
    for key in ("si_sdr_db", "spectral_convergence", "level_shift_db", "flatness_distance_db"):
        assert row.values["noise"][key] is None


def test_a_machine_at_fault_ends_the_evaluation():
    def full() -> Case:
        raise EnvironmentFailure("no space")

    with pytest.raises(EnvironmentFailure):
        list(Evaluation(Settings(), NO_EXTRAS).run([Pending("x", full)]))
