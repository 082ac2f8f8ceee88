"""Networks that tell envelopes, trained by the trainer, for either codec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from trainings import RUNTIME, begun, log, trained

from cli import jatsr
from jatsr_model.codecs import registry
from jatsr_model.upsampling import model
from shards.errors import ConfigError


def losses_of(run: Path) -> list[float]:
    return [line["Loss/Total"] for line in log(run) if "Loss/Total" in line]


def test_an_envelope_is_learned_from_augmented_music(dataset: Path, tmp_path: Path) -> None:
    changes = {"model": "mdct-envelope", "steps": 60, "lr": 2e-3, "warmup": 5, "equalise": 0.1,
               "cut": 0.3, "end": 0.5, "losses": {"levels": 1.0}, "val_every": 60}  # fmt: skip
    trained(tmp_path / "run", dataset, **{**RUNTIME, **changes})
    losses = losses_of(tmp_path / "run")
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]), losses
    validated = [line for line in log(tmp_path / "run") if "Val/Loss" in line]
    assert all(0 < line["Val/Loss"] < 2 for line in validated)
    assert validated[-1]["Val/LossTold"] != validated[-1]["Val/Loss"]
    assert "Val/MSE" not in validated[-1]


def test_what_is_augmented_depends_on_the_step_alone(dataset: Path, tmp_path: Path) -> None:
    changes = {"model": "mdct-envelope", "steps": 2, "equalise": 0.3, "cut": 0.5, "end": 0.5,
               "losses": {"levels": 1.0}, "log_every": 1}  # fmt: skip
    for name, micro in (("whole", 0), ("halves", 2)):
        trained(tmp_path / name, dataset, **{**RUNTIME, **changes, "micro_batch": micro})
    whole, halves = (losses_of(tmp_path / name) for name in ("whole", "halves"))
    assert whole == pytest.approx(halves, rel=1e-4)
    for name in ("equalise", "cut", "end"):
        without = tmp_path / name
        trained(without, dataset, **{**RUNTIME, **changes, name: 0.0})
        assert losses_of(without)[0] != pytest.approx(whole[0], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "dropout"),
    [
        ({"model": "mdct-envelope"}, 0.7), ({"model": "mdct-envelope", "condition_dropout": 0}, 0),
        ({"model": "mdct-xs"}, 0.1),
    ],
)  # fmt: skip
def test_conditions_are_left_out_as_often_as_suits_the_network(
    dataset: Path, tmp_path: Path, changes: dict[str, Any], dropout: float
) -> None:
    trainer = begun(tmp_path / "run", dataset, **changes)
    assert trainer.recipe.condition_dropout == dropout


def test_envelopes_cannot_be_learned_by_heart(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--overfit"):
        begun(tmp_path / "run", dataset, model="mdct-envelope", losses={"levels": 1.0}, overfit=1)


@pytest.mark.slow
def test_the_recipe_serves_dac_latents_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the codec: its latents still tell loud from quiet, bright from dull."""
    monkeypatch.setattr(registry, "_WINDOW_FRAMES", 192)  # hardly more than the music has
    monkeypatch.setattr(model, "_DAC_WINDOW", 64)
    rng = np.random.default_rng(0)
    for number in range(4):
        loud = np.repeat(np.exp(rng.normal(-3, 1, 8)), 11_025)
        wave = loud * rng.standard_normal(len(loud))
        (tmp_path / "music").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "music" / f"{number}.wav", wave.clip(-1, 1), 44_100)
    invoke = CliRunner().invoke
    built = invoke(jatsr, [
        "build", str(tmp_path / "music"), str(tmp_path / "ds"), "--codec", "dac-44khz-untrained",
        "--lr", "sinc:16000", "--workers", "0", "--captions", "none", "--val-fraction", "0.25",
        "--no-compile",
    ])  # fmt: skip
    assert built.exit_code == 0, built.output
    run = tmp_path / "run"
    changes = {"model": "envelope", "steps": 60, "lr": 2e-3, "warmup": 5,
               "losses": {"levels": 1.0}}  # fmt: skip
    trained(run, tmp_path / "ds", **{**RUNTIME, **changes})
    losses = losses_of(run)
    assert losses[-1] < 0.9 * losses[0], losses
    soundfile.write(tmp_path / "low.wav", rng.standard_normal(8000) / 20, 16_000)
    done = invoke(jatsr, [
        "upsample", str(tmp_path / "low.wav"), str(tmp_path / "up.wav"), "--model",
        str(run / "checkpoints" / "last"),
        "--window-frames", "64", "--json",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"][0]["status"] == "ok"
    for name in ("equalise", "cut", "end"):
        with pytest.raises(ConfigError, match=f"--{name}: latents of dac-72"):
            begun(tmp_path / "no", tmp_path / "ds", **{**changes, name: 0.1})
