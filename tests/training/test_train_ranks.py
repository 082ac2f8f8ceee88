"""`jatsr train` under torchrun: two processes do what one does."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from train_processes import TWO_RANKS, ended, reach, resumed, running, small, trained
from trainings import RECIPE, again, begun, log, run_until, saved
from trainings import trained as trained_here

from jatsr_model.training.data import training_batches
from jatsr_model.training.settings import Recipe, Runtime
from jatsr_model.training.world import World

STEPS = 40
# the crops that are judged do not divide among two
SAME: dict[str, Any] = {"steps": STEPS, "batch_size": 4, "crop_frames": 16, "log_every": 1,
                        "val_every": 10, "val_crops": 3, "sample_every": 20,
                        "samples": 2}  # fmt: skip


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    trained_here(folder, dataset, **SAME)
    return folder


def expect_alike(folder: Path, alone: Path) -> None:
    """But for rounding, in everything that is saved and logged."""
    found, expected = saved(folder), saved(alone)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)
    lines, others = log(folder), log(alone)
    assert [(n["step"], n.keys()) for n in lines] == [(n["step"], n.keys()) for n in others]
    for line, other in zip(lines, others, strict=True):
        for tag, value in other.items():
            if tag.startswith(("Val", "Loss", "LR", "GradNorm")):
                assert math.isclose(line[tag], value, rel_tol=1e-5), (line["step"], tag)


def test_two_are_stopped_together_and_one_goes_on(
    dataset: Path, tmp_path: Path, alone: Path
) -> None:
    folder = tmp_path / "run"
    with running(*small(dataset, folder, **SAME), program=TWO_RANKS) as process:
        reach(process, folder, 12)
        process.send_signal(signal.SIGTERM)  # torchrun passes it on
        _, out, err = ended(process)
    assert out.count("stopped at step") == 1, err
    assert err.count("model    mdct-xs") == 1
    assert "fp32 on 2 x cpu, ddp" in err
    trainer = again(folder)
    assert 12 <= trainer.standing.step < STEPS
    assert f"stopped at step {trainer.standing.step}, saved in" in out
    assert len(list(folder.glob("events*"))) == 2  # that of two, and now ours
    assert trainer.run()
    expect_alike(folder, alone)


@pytest.mark.slow
def test_one_is_stopped_and_two_go_on_with_half_of_everything(
    dataset: Path, tmp_path: Path, alone: Path
) -> None:
    folder = tmp_path / "run"
    run_until(begun(folder, dataset, **SAME), STEPS // 2)
    out = trained(*resumed(folder, "--strategy", "fsdp"), program=TWO_RANKS)
    assert out.count(f"finished at step {STEPS}") == 1
    expect_alike(folder, alone)
    trainer = again(folder)
    assert trainer.standing.step == STEPS


@pytest.mark.slow
def test_what_cannot_work_is_said_by_all(dataset: Path, tmp_path: Path) -> None:
    arguments = small(dataset, tmp_path / "run", batch_size=3)
    with running(*arguments, program=TWO_RANKS) as process:
        code, out, err = ended(process)
    assert (code, out) == (1, "")
    assert err.count("error: --batch-size 3 is not a multiple of the 2 processes") >= 1
    assert not (tmp_path / "run").exists()


def test_crops_that_are_learned_by_heart_are_dealt_out(dataset: Path) -> None:
    recipe, runtime = Recipe(**{**RECIPE, "overfit": 3, "batch_size": 6}), Runtime(workers=0)
    worlds = World(), World(rank=0, size=2), World(rank=1, size=2)
    whole, even, odd = (
        next(iter(training_batches(str(dataset), recipe, runtime, world))) for world in worlds
    )
    assert torch.equal(torch.stack([even.hr, odd.hr], 1).flatten(0, 1), whole.hr)
    assert not torch.equal(whole.hr[0], whole.hr[1])
