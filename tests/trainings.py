"""Small trainings: of a dataset of a few seconds, in this process or in one that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from jatsr_data import Batch
from jatsr_model.training.begin import Wish, new_training, same_training
from jatsr_model.training.claim import write_run
from jatsr_model.training.interrupt import Interrupt
from jatsr_model.training.journal import Journal
from jatsr_model.training.session import open_training
from jatsr_model.training.step import Outcome
from jatsr_model.training.task import Task
from jatsr_model.training.trainer import Trainer
from jatsr_model.training.world import World

RECIPE: Mapping[str, Any] = {
    "model": "mdct-xs",
    "steps": 12,
    "batch_size": 4,
    "crop_frames": 32,
    "lr": 1e-3,
}
RUNTIME: Mapping[str, Any] = {
    "device": "cpu",
    "workers": 0,
    "log_every": 4,
    "val_every": 0,
    "val_crops": 6,
    "sample_every": 0,
    "samples": 1,
    "sample_steps": 2,
    "save_every": 100,
    "log_json": True,
}
PLAIN = ("-c", "import cli; cli.main()")  # what Python is to run
ONE = World()
OPEN: list[Callable[[], None]] = []  # what the fixture ``one_thread`` has to close


def wish(dataset: Path | str = "", accept: bool = False, **changes: Any) -> Wish:
    """Small values, changed; what is a field of the runtime goes there."""
    recipe, runtime = dict(RECIPE), dict(RUNTIME)
    for name, value in changes.items():
        (runtime if name in RUNTIME or name in ("micro_batch", "keep", "max_bad_steps", "compile",
                                                "recompute") else recipe)[name] = value  # fmt: skip
    return Wish(dataset=str(dataset), recipe=recipe, runtime=runtime, places={}, accept=accept)


def begun(folder: Path, dataset: Path, **changes: Any) -> Trainer:
    """A new training."""
    task, _ = new_training(folder, wish(dataset, **changes), ONE)
    folder.mkdir(parents=True)
    write_run(task)
    return _opened(task, Journal(folder))


def again(folder: Path, accept: bool = False, dataset: str = "", **asked: Any) -> Trainer:
    """The same training, continued."""
    recipe = {k: v for k, v in asked.items() if k not in RUNTIME}
    runtime = {k: v for k, v in asked.items() if k in RUNTIME}
    wanted = Wish(dataset=dataset, recipe=recipe, runtime=runtime, places={}, accept=accept)
    task, _ = same_training(folder, wanted, ONE)
    start = task.checkpoint.step if task.checkpoint else 0
    return _opened(task, Journal(folder, start=start))


def _opened(task: Task, journal: Journal) -> Trainer:
    OPEN.append(journal.close)
    trainer = open_training(task, ONE, Interrupt(), journal)
    OPEN.append(trainer.close)
    return trainer


def trained(folder: Path, dataset: Path, **changes: Any) -> Trainer:
    """A training run to its end."""
    trainer = begun(folder, dataset, **changes)
    assert trainer.run()
    return trainer


def looking(trainer: Trainer, look: Callable[[int, Batch], object]) -> Trainer:
    """The same trainer; ``look`` sees every step's number and batch before the step is taken."""
    take = trainer.stepper

    class Looking:
        def __call__(self, step: int, batch: Batch) -> Outcome:
            look(step, batch)
            return take(step, batch)

        def __getattr__(self, name: str) -> Any:
            return getattr(take, name)

    return replace(trainer, stepper=Looking())


def run_until(trainer: Trainer, stop: int) -> None:
    """Interrupt a training while it takes the last step before ``stop``."""

    def interrupt(step: int, _: Batch) -> None:
        trainer.interrupt.number = 15 * (step == stop - 1)

    assert not looking(trainer, interrupt).run()
    trainer.batches.close()


def saved(folder: Path, step: int | str = "last") -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, no longer a part of its files."""
    place = folder / "checkpoints" / (step if isinstance(step, str) else f"{step:08d}")
    own = load_file(place / "training.safetensors")
    average = load_file(place / "model.safetensors")
    found = {**own, **{f"ema.{name}": tensor for name, tensor in average.items()}}
    return {name: tensor.clone() for name, tensor in found.items()}


def expect_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    """Equal to the last bit."""
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def log(folder: Path) -> list[dict[str, Any]]:
    """Lines of the log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def command(*arguments: object, program: Sequence[str] = PLAIN) -> subprocess.Popen[str]:
    """``jatsr train`` as a process of its own, with one thread, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *program, "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def options(**changes: Any) -> list[str]:
    """The small values as options of the command."""
    found = []
    for name, value in {**RECIPE, **RUNTIME, **changes}.items():
        flag = "--" + name.replace("_", "-")
        found += [flag] if value is True else [] if value is False else [flag, str(value)]
    return found
