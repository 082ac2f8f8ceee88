"""The model that comes with the package: what its card says, and that it is worth having."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner
from evaluate_runs import run as evaluate
from numpy.typing import NDArray

from cli import jatsr
from jatsr_model.model_folder import (
    SHIPPED,
    WEIGHTS,
    ModelError,
    find_model,
    load_network,
    read_card,
    shipped_models,
)
from jatsr_model.upsampling.options import DEFAULT
from jatsr_model.upsampling.requests import window_rolloff
from shards.files import sha256_file

RATE, SECONDS = 44_100, 6.5
RATES = (4000, 8000, 16_000, 24_000, 32_000)
BRIGHT = ("5000", "9000", "14000")  # Hz
MOST_BYTES = 20_000_000
# By rate: LSD of the model, at most so much of that of the input and of the straight line.
MARGINS = dict.fromkeys(RATES, (0.6, 0.8))


def string(f0: float, seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Partials that fade the sooner the higher they are; each ends 60 dB down."""
    after = np.arange(round(min(seconds, 3.5) * RATE)) / RATE
    body = rng.uniform(1500, 6000)  # Hz, where the strings grow dull
    wave, partial = np.zeros(len(after)), np.exp(-2 * after).astype(np.complex128)
    turn = np.exp((2j * np.pi * f0 - 0.15) * after)
    for n in range(1, int(RATE / 2 / f0)):
        length = min(round(7 / (2 + 0.15 * n) * RATE), len(partial))
        partial = partial[:length] * turn[:length]
        level = n**-0.8 / (1 + (n * f0 / body) ** 2)
        wave[:length] += level * (partial * np.exp(2j * np.pi * rng.random())).imag
    return wave


def piece(seed: int) -> NDArray[np.float32]:
    """Plucked chords of dark and bright strings, a shaker and a drum, with some noise."""
    rng, time = np.random.default_rng(seed), np.arange(int(RATE * SECONDS)) / RATE
    wave, root = np.zeros(len(time)), 98.0 * 2 ** (rng.integers(0, 8) / 12)
    for start in np.arange(0, SECONDS - 0.5, 0.4):
        for f0 in root * 2 ** (rng.choice([0, 3, 7, 10, 12, 15], 3, replace=False) / 12):
            plucked = string(f0, SECONDS - start, rng)
            first = len(wave) - round((SECONDS - start) * RATE)
            wave[first : first + len(plucked)] += plucked
    white = rng.standard_normal(len(time))
    hertz = np.fft.rfftfreq(len(time), 1 / RATE)
    for low, high, every, decay, level in ((4000, 9000, 0.2, 40, 0.25), (100, 900, 0.8, 12, 1.0)):
        shape = (hertz / low) ** 2 / (1 + (hertz / low) ** 2) / (1 + (hertz / high) ** 4)
        hit = np.fft.irfft(np.fft.rfft(white) * shape, len(time))
        for start in np.arange(0.1, SECONDS - 0.5, every):
            after = np.clip(time - start, 0, None)
            wave += level * (time >= start) * np.exp(-decay * after) * hit / hit.std()
    return (0.3 * wave / np.abs(wave).max() + 2e-5 * white).astype(np.float32)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pieces")
    for seed in range(3):
        soundfile.write(folder / f"{seed}.ogg", piece(seed), RATE)
    return folder


def test_the_weights_are_those_of_the_card_and_few_enough() -> None:
    folder = find_model(DEFAULT)
    assert folder == SHIPPED / DEFAULT
    assert shipped_models() == [DEFAULT]
    card, digest = read_card(folder)
    weights = folder / WEIGHTS
    assert sha256_file(weights) == digest
    assert weights.stat().st_size < MOST_BYTES
    network, _ = load_network(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert digest in text
    assert f"{sum(p.numel() for p in network.parameters()):,}" in text
    commands = re.findall(r"jatsr train .*?--model (\S+)", text)
    assert commands
    assert set(commands) == {card.model}
    assert card.origin["recipe"]["model"] == card.model
    assert card.origin["recipe"]["condition_dropout"] > 0  # it guesses where it is told nothing


def test_its_name_is_its_own_whatever_the_folder_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = find_model(DEFAULT)
    for place in (Path(DEFAULT), Path("runs") / DEFAULT / "checkpoints" / "best"):
        shutil.copytree(other, place)
    assert find_model(DEFAULT) == SHIPPED / DEFAULT
    assert find_model(f"./{DEFAULT}") == Path(DEFAULT)
    assert find_model(f"runs/{DEFAULT}") == Path("runs") / DEFAULT / "checkpoints" / "best"


def test_the_last_training_of_the_card_is_the_recipe_of_the_weights() -> None:
    """Every option of the training that the card gives is in what the checkpoint says.

    But for what it started from, of which the checkpoint has the hash.
    """
    recipe = read_card(find_model(DEFAULT))[0].origin["recipe"]
    text = (SHIPPED / DEFAULT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    line = re.findall(r"^jatsr train (.*)$", text, flags=re.MULTILINE)[-1]
    options = dict(re.findall(r"--([a-z-]+) (\S+)", line))
    told = {name.replace("-", "_"): value for name, value in options.items()}
    for name, value in told.items():
        if name in recipe and name != "start":
            assert str(recipe[name]) == value or float(recipe[name]) == float(value), name
    assert {"model", "steps", "lr", "batch_size"} <= told.keys()


def test_it_beats_the_input_and_what_needs_no_learning_at_all_rates(pieces: Path) -> None:
    done = evaluate(
        "--model", DEFAULT, "--data", pieces, "--baselines", "--json",
        "--rates", ",".join(map(str, RATES)),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rates = json.loads(done.stdout)["rates"]
    found = {
        entry["rate"]: {name: values["lsd"]["mean"] for name, values in entry["means"].items()}
        for entry in rates
    }
    assert tuple(found) == RATES
    for rate, (of_input, of_line) in MARGINS.items():
        lsd = found[rate]
        assert lsd["model"] < of_input * lsd["input"], (rate, lsd)
        assert lsd["model"] < of_line * lsd["line"], (rate, lsd)


def test_upsample_needs_no_model_named(pieces: Path, tmp_path: Path) -> None:
    wave = soundfile.read(pieces / "0.ogg", dtype="float32")[0][: 2 * RATE : 4]
    song = tmp_path / "song.wav"
    soundfile.write(song, wave, RATE // 4)
    done = CliRunner().invoke(jatsr, ["upsample", str(song), str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row["status"] == "ok"
    assert soundfile.info(tmp_path / "out" / "song.flac").samplerate == RATE


def test_nothing_is_heard_before_an_attack(tmp_path: Path) -> None:
    """The 15 ms before clicks against the 15 ms after them, above the cutoff of the input."""
    rate, rng = 8000, np.random.default_rng(0)
    places = np.arange(RATE // 2, 2 * RATE, RATE // 3)
    wave = 1e-5 * rng.standard_normal(int(2.5 * RATE))
    decay = np.exp(-np.arange(RATE // 30) / (0.005 * RATE))
    for place in places:
        wave[place : place + len(decay)] += 0.2 * decay * rng.standard_normal(len(decay))
    soundfile.write(tmp_path / "low.wav", soxr.resample(wave, RATE, rate, "VHQ"), rate)
    done = CliRunner().invoke(
        jatsr, ["upsample", str(tmp_path / "low.wav"), str(tmp_path / "made.wav"), "--json"]
    )
    assert done.exit_code == 0, done.output
    made = soundfile.read(tmp_path / "made.wav")[0]
    spectrum = np.fft.rfft(made)
    spectrum[np.fft.rfftfreq(len(made), 1 / RATE) < rate / 2] = 0
    power = np.square(np.fft.irfft(spectrum, len(made)))
    span, gap = round(0.015 * RATE), round(0.003 * RATE)
    before = np.mean([power[place - span - gap : place - gap] for place in places])
    after = np.mean([power[place : place + span] for place in places])
    assert after > 1e-7  # something was generated
    assert 10 * np.log10(before / after) < -20


def test_it_is_as_bright_as_is_asked_for(pieces: Path, tmp_path: Path) -> None:
    """What lies above the input of 8 kHz, in dB, for three roll-offs and for none."""
    wave = soundfile.read(pieces / "0.ogg", dtype="float32")[0]
    song, levels, rolloffs = tmp_path / "song.wav", [], []
    soundfile.write(song, soxr.resample(wave, RATE, 8000, "VHQ"), 8000)
    for number, asked in enumerate(([], *(["--target-rolloff", hz] for hz in BRIGHT))):
        made = tmp_path / f"{number}.wav"
        done = CliRunner().invoke(jatsr, ["upsample", str(song), str(made), "--json", *asked])
        assert done.exit_code == 0, done.output
        out = soundfile.read(made, dtype="float32")[0]
        power = np.square(np.abs(np.fft.rfft(out)))
        levels.append(10 * np.log10(power[len(power) * 4 // 22 :].sum()))
        rolloffs.append(RATE / 2 * window_rolloff(out[None]))
    assert levels[1] + 3 < levels[2] < levels[3] - 1.5, levels
    assert levels[1] < levels[0] < levels[3], levels
    errors = [found / float(asked) for found, asked in zip(rolloffs[1:], BRIGHT, strict=True)]
    assert all(0.7 < error < 1.4 for error in errors), rolloffs


@pytest.mark.parametrize("flag", ["--steps", "--cfg"])
def test_what_envelopes_cannot_do_is_refused(flag: str, pieces: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        jatsr, ["upsample", str(pieces / "0.ogg"), str(tmp_path / "out"), flag, "4"]
    )
    assert done.exit_code != 0
    assert f"{flag} 4" in str(done.exception)


@pytest.mark.parametrize("name", ["../shipped/music", "musik", "."])
def test_other_names_are_no_shipped_models(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="music"):
        find_model(name)
