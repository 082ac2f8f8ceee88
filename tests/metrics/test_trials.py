"""``jatsr evaluate --model --data``: what is tried, what is measured, and what is said of it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from evaluate_runs import run
from helpers import music
from PIL import Image
from threads import one_thread  # noqa: F401 - a fixture
from upsamplings import random_model

from jatsr_model.codecs import encode
from jatsr_model.commands import evaluate_model as module
from jatsr_model.metrics.names import METRICS
from jatsr_model.metrics.trials import Trials
from jatsr_model.upsampling.inspection import inspect_file
from jatsr_model.upsampling.model import load_model
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.sound import Sound, gain_for
from shards.errors import ConfigError, EnvironmentFailure

RATE = 44100
RATES = (6000, 16000)
QUICK = ("--rates", "6000,16000", "--steps", 2)


@pytest.fixture(scope="module", autouse=True)
def no_extras():
    """Listening models, where they are installed, are slow and tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "visqol", None)
        patch.setitem(__import__("sys").modules, "openl3", None)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Noise with chords, of which no two files have one length or form."""
    folder = tmp_path_factory.mktemp("album")
    write(folder / "a.wav", music(0.9, 0, channels=1))
    write(folder / "b.flac", music(0.5, 1), subtype="PCM_16")
    write(folder / "sub" / "c.wav", music(0.7, 2, rate=48000), rate=48000)
    return folder


def write(path, wave, rate=RATE, subtype="FLOAT"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)
    return path


def trial(model, data, *arguments, code=0):
    done = run("--model", model, "--data", data, *QUICK, "--json", *arguments, code=code)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def facts(model, album):
    return trial(model, album)


def numbers(facts):
    """Metrics by name, rate and candidate."""
    return {
        (row["name"], row["rate"], candidate): values
        for row in facts["files"]
        for candidate, values in row["metrics"].items()
    }


def plain_lsd(reference, estimate):
    """As it is defined."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)

    def levels(wave):
        frames = np.lib.stride_tricks.sliding_window_view(np.asarray(wave, np.float32), 2048)[::512]
        return np.log10(np.maximum(np.abs(np.fft.rfft(frames * window)) ** 2, 1e-8))

    return np.mean(np.sqrt(np.mean((levels(reference) - levels(estimate)) ** 2, axis=1)))


def test_the_input_is_the_reference_resampled_down_and_up(album):
    found = numbers(trial("identity", album))
    wave = np.float32(soundfile.read(album / "a.wav")[0])
    for rate in RATES:
        low = soxr.resample(wave, RATE, rate, "VHQ")
        expected = plain_lsd(wave, np.resize(soxr.resample(low, rate, RATE, "VHQ"), wave.shape))
        assert found["a", rate, "input"]["lsd"] == pytest.approx(expected, rel=1e-3)
        assert expected > 1


def test_identity_gives_exactly_the_unprocessed_figures(album):
    facts = trial("identity", album)
    found = numbers(facts)
    assert {candidate for *_, candidate in found} == {"input", "model"}
    for (name, rate, candidate), values in found.items():
        assert values == found[name, rate, "input"], (name, rate, candidate)
    for at_rate in facts["rates"]:
        assert at_rate["means"]["model"] == at_rate["means"]["input"]


def test_the_codec_is_the_round_trip_of_the_reference(model, album, facts):
    found = numbers(facts)
    loaded = load_model(model)
    codec, wave = loaded.codec, np.float32(soundfile.read(album / "a.wav")[0])[None]
    measured = inspect_file(album / "a.wav").facts
    gain = gain_for(Sound(RATE, 1, measured, ""), loaded.target_lufs)
    assert gain.gain != 1
    stored = torch.from_numpy(encode(codec, wave * np.float32(gain.gain)))
    back = codec.decode(codec.latents(stored)).numpy()[0, : wave.shape[1]] / gain.gain
    for rate in RATES:
        values = found["a", rate, "codec"]
        assert values["lsd"] == pytest.approx(plain_lsd(wave[0], back), rel=1e-3)
        assert values["lsd"] < 0.1 < found["a", rate, "input"]["lsd"]


def test_the_codec_has_one_distance_at_all_rates_and_several_above_their_cutoffs(facts):
    found = numbers(facts)
    for name in ("a", "b", "sub/c"):
        at_rates = [found[name, rate, "codec"] for rate in RATES]
        assert len({values["lsd"] for values in at_rates}) == 1
        assert len({values["lsd_hf"] for values in at_rates}) == len(RATES)


def test_the_model_keeps_the_low_band_and_fills_the_high_one(facts):
    found = numbers(facts)
    assert len(found) == 3 * len(RATES) * 3
    for (name, rate, candidate), values in found.items():
        if candidate == "model":
            unprocessed = found[name, rate, "input"]
            assert values["lsd_lf"] < unprocessed["lsd_lf"] + 0.1
            assert abs(values["lsd_hf"] - unprocessed["lsd_hf"]) > 0.3
    assert [row["cutoff_hz"] for row in facts["files"]] == [2700, 7200] * 3


class Keeping(Renderer):
    """Keeps what it was given and what it made of it."""

    kept: Path

    def run(self, jobs, advance=lambda _: None):
        for job, result in super().run(jobs, advance):
            self.kept.mkdir(exist_ok=True)
            shutil.copy(job.source, self.kept / job.source.name)
            shutil.copy(job.target, self.kept / job.target.name)
            shutil.copy(job.source.parent / "reference.wav", self.kept / "reference.wav")
            yield job, result


def test_the_same_files_give_the_same_numbers_by_name(model, album, tmp_path, monkeypatch):
    """The two forms of the command agree, and what is measured is what was in the files."""
    monkeypatch.setattr(Keeping, "kept", tmp_path / "kept", raising=False)
    monkeypatch.setattr(module, "Renderer", Keeping)
    found = numbers(trial(model, album / "sub" / "c.wav"))
    reference = tmp_path / "kept" / "reference.wav"
    assert soundfile.info(reference).frames == round(0.7 * RATE)
    for rate in RATES:
        low, made = (tmp_path / "kept" / f"{what}{rate}.wav" for what in ("low", "model"))
        assert (soundfile.info(low).samplerate, soundfile.info(low).subtype) == (rate, "FLOAT")
        done = run("--reference", reference, "--estimate", made, "--json", "--cutoff", 0.45 * rate)
        (row,) = json.loads(done.stdout)["files"]
        again, values = row["metrics"]["estimate"], found["c", rate, "model"]
        assert again == values
        waves = [soundfile.read(path, dtype="float32")[0] for path in (reference, made)]
        assert values["lsd"] == pytest.approx(plain_lsd(*waves), rel=1e-4)


def test_numbers_do_not_depend_on_company_order_or_batches(model, album, facts, tmp_path):
    names = {"a": "z.wav", "b": "m.flac", "sub/c": "a.wav"}
    for name, path in zip(names, sorted(album.rglob("*.*")), strict=True):
        shutil.copy(path, tmp_path / names[name])
    renamed = numbers(trial(model, tmp_path, "--batch-size", 5))
    alone = numbers(trial(model, album / "b.flac", "--rates", "16000"))
    for (name, rate, candidate), values in numbers(facts).items():
        assert renamed[Path(names[name]).stem, rate, candidate] == values
        assert alone.get((name, rate, candidate), values) == values
    assert len(alone) == 3


def test_the_seed_decides_what_is_generated_and_nothing_else(model, album, facts):
    other = numbers(trial(model, album, "--seed", 1))
    for (name, rate, candidate), values in numbers(facts).items():
        assert (other[name, rate, candidate] == values) == (candidate != "model")


def test_a_broken_file_is_a_row_that_says_why(model, album, facts, tmp_path):
    shutil.copytree(album, tmp_path / "d")
    (tmp_path / "d" / "aa.wav").write_bytes(b"dear diary")
    data = (album / "a.wav").read_bytes()
    (tmp_path / "d" / "cut.wav").write_bytes(data[: len(data) // 3])
    write(tmp_path / "d" / "short.wav", music(0.03))
    (tmp_path / "d" / "notes.txt").write_text("no music")
    found = trial(model, tmp_path / "d", "--batch-size", 3, code=1)
    problems = {(row["name"], row["rate"]): row["problem"] for row in found["files"]}
    for rate in RATES:
        assert "expected audio" in problems.pop(("aa", rate))
        assert "header says" in problems.pop(("cut", rate))
        assert "2048 samples" in problems.pop(("short", rate))
    assert set(problems.values()) == {None}
    assert numbers(found) == numbers(facts)
    assert found["rates"] == facts["rates"]
    text = run("--model", model, "--data", tmp_path / "d", *QUICK, code=1).stdout
    assert text.count("aa: FAILED") == 1
    assert "3 of 6 files compared" in text


def test_a_failure_of_the_model_fails_that_rate_alone(model, album, monkeypatch):
    from jatsr_model.upsampling import render
    from shards.errors import TrackError

    inner = render.inspect_file

    def failing(path, **how):
        if path.name == "low6000.wav" and soundfile.info(path).frames < 4000:
            raise TrackError("no", stage="decode")
        return inner(path, **how)

    monkeypatch.setattr(render, "inspect_file", failing)
    found = trial(model, album, code=1)
    failed = [(row["name"], row["rate"]) for row in found["files"] if row["problem"]]
    assert failed == [("b", 6000)]
    assert [at_rate["means"]["model"]["lsd"]["files"] for at_rate in found["rates"]] == [2, 3]


def test_csv_holds_what_json_holds(model, album, facts):
    done = run("--model", model, "--data", album, *QUICK, "--csv")
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    found = numbers(facts)
    assert [(line["name"], int(line["rate"]), line["candidate"]) for line in lines] == list(found)
    for line, values in zip(lines, found.values(), strict=True):
        for metric in METRICS:
            value = values[metric.key]
            assert line[metric.key] == ("" if value is None else repr(value))
        assert json.loads(line["settings"]) == facts["settings"]


def test_the_table_has_a_row_per_rate_and_candidate(model, album, facts):
    text = run("--model", model, "--data", album, *QUICK).stdout
    rows = [line.split() for line in text.splitlines()]
    for at_rate in facts["rates"]:
        for candidate in ("input", "codec", "model"):
            row = next(r for r in rows if r[:2] == [str(at_rate["rate"]), candidate])
            mean = at_rate["means"][candidate]["lsd"]
            assert row[2:5] == [f"{mean['mean']:.3f}", f"[{mean['low']:.3f},",
                                f"{mean['high']:.3f}]"]  # fmt: skip
    for expected in ("float32", "power floor 1e-08", "steps 2", "seed 0", "mono", "fp32",
                     "flatness", "codec mdct", "2 FLOAT, 1 PCM_16", "3 of 3 files"):  # fmt: skip
        assert expected in text, expected


def test_what_was_fixed_is_in_the_json(model, facts):
    settings = facts["settings"]
    digest = json.loads((model / "model.json").read_text())
    assert settings["weights_sha256"] in json.dumps(digest)
    assert (settings["steps"], settings["clip_seconds"], settings["bits"]) == (2, 6.0, "float")
    source = facts["files"][2]["sounds"]["source"]
    assert (source["coding"], source["channels"], source["rate"]) == ("PCM_16", 2, RATE)


def test_a_clip_comes_from_the_middle_and_all_means_all(tmp_path):
    """Both ends are silent, so that what they add is known."""
    middle = music(0.5, channels=1)
    pause = np.zeros((RATE // 4, 1))
    path = write(tmp_path / "m.wav", np.concatenate([pause, middle, pause]))
    alone = write(tmp_path / "alone.wav", middle)
    cut = numbers(trial("identity", path, "--clip-seconds", 0.5))
    whole = numbers(trial("identity", alone, "--clip-seconds", "all"))
    for rate in RATES:
        assert cut["m", rate, "input"] == whole["alone", rate, "input"]
    for text in ("all", 0, 600):
        found = trial("identity", path, "--clip-seconds", text)
        assert found["files"][0]["sounds"]["reference"]["samples"] == RATE
        assert numbers(found) != cut


def test_a_reference_that_is_dull_itself_is_kept_and_noted(tmp_path):
    wave = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    dull = soxr.resample(soxr.resample(wave, RATE, 12000, "VHQ"), 12000, RATE, "VHQ")
    found = trial("identity", write(tmp_path / "dull.wav", dull))
    notes = {row["rate"]: [n for n in row["notes"] if "itself ends" in n] for row in found["files"]}
    assert notes[6000] == []
    assert "5.8 kHz" in notes[16000][0]
    assert all(row["metrics"]["input"]["lsd"] is not None for row in found["files"])
    text = run("--model", "identity", "--data", tmp_path, *QUICK).stdout
    assert "(at 16000 Hz)" in text


def test_silence_is_no_obstacle(model, tmp_path):
    write(tmp_path / "s.wav", np.zeros(RATE // 2))
    found = trial(model, tmp_path)
    for row in found["files"]:
        assert {values["lsd"] for values in row["metrics"].values()} == {0}
        assert "the reference is silent" in row["notes"]


def test_pictures_of_every_file_and_rate(model, album, tmp_path):
    run("--model", model, "--data", album, *QUICK, "--pictures", tmp_path / "p")
    names = sorted(path.relative_to(tmp_path / "p").as_posix() for path in tmp_path.rglob("*.png"))
    assert names == sorted(f"{rate}/{name}.png" for rate in RATES for name in ("a", "b", "sub/c"))
    with Image.open(tmp_path / "p" / "6000" / "a.png") as image:
        assert image.size[1] > 600


def test_nothing_is_left_behind_and_little_lies_around(model, album, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    counts = []
    measure = Trials._measure

    def watched(trials, trial, result):
        counts.append(len(list(trial.subject.folder.parent.glob("*/reference.wav"))))
        measure(trials, trial, result)

    monkeypatch.setattr(Trials, "_measure", watched)
    trial(model, album)
    assert counts == [1] * 6
    assert not list(tmp_path.rglob("*.wav"))

    def full(*_):
        raise EnvironmentFailure("disk full")

    monkeypatch.setattr(Trials, "_measure", full)
    with pytest.raises(EnvironmentFailure):
        trial(model, album)
    assert not list(tmp_path.rglob("*.wav"))


def test_files_of_one_name_keep_their_endings(tmp_path):
    for ending in (".wav", ".flac"):
        write(tmp_path / f"x{ending}", music(0.2), subtype="PCM_16")
    found = trial("identity", tmp_path, "--rates", "8000")
    assert [row["name"] for row in found["files"]] == ["x.flac", "x.wav"]


@pytest.mark.parametrize(
    ("rates", "words"),
    [("8000,fast", "whole numbers"), ("", "whole numbers"), ("8000,", "whole numbers"),
     ("500", "found 500"), ("8000,44100", "found 44100"), ("8000,8000", "each rate once"),
     ("-8000", "found -8000")],
)  # fmt: skip
def test_rates_that_cannot_work_are_named(album, rates, words):
    with pytest.raises(ConfigError, match=f"--rates.*{words}"):
        run("--model", "identity", "--data", album, "--rates", rates)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--reference and --estimate"),
        (("--reference", "r"), "expected --estimate, found --reference"),
        (("--low", "r"), "expected --reference and --estimate, found --low"),
        (("--model", "identity"), "expected --data, found --model"),
        (("--data", "d", "--steps", "3"), "expected --model, found --data, --steps"),
        (("--model", "m", "--data", "d", "--low", "l"), "--low and --model do not belong"),
        (("--reference", "r", "--estimate", "e", "--rates", "1"), "--reference and --rates"),
        (("--model", "m", "--data", "d", "--cutoff", "9"), "--cutoff and --model"),
        (("--model", "m", "--data", "d", "--json", "--csv"), "--json and --csv"),
        (("--model", "identity", "--data", "none"), "--data none: no such"),
        (("--model", "identity", "--data", "d", "--clip-seconds", "x"), "--clip-seconds x"),
        (("--model", "identity", "--data", "d", "--clip-seconds", "nan"), "--clip-seconds nan"),
        (("--model", "identity", "--data", "d", "--clip-seconds", "0.01"), "--clip-seconds 0.01"),
    ],
)  # fmt: skip
def test_forms_do_not_mix(arguments, words):
    with pytest.raises(ConfigError, match=words):
        run(*arguments)


def test_what_does_not_suit_is_named(model, album, tmp_path):
    with pytest.raises(ConfigError, match=r"--data .*found none"):
        trial("identity", tmp_path)
    with pytest.raises(ConfigError, match="--device"):
        trial(model, album, "--device", "abacus")
    with pytest.raises(ConfigError, match="--target-rolloff"):
        trial(model, album, "--target-rolloff", -1)
