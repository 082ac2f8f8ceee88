"""The trainer and a bare loop, step by step in turns; see ``training.py``."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch
from common import jatsr, machine, table
from torch.nn import functional
from training_ways import clock_of, utilisation

from jatsr_data import Batch
from jatsr_model.dit import preset
from jatsr_model.training.begin import Wish, new_training
from jatsr_model.training.data import Batches
from jatsr_model.training.interrupt import Interrupt
from jatsr_model.training.journal import Journal
from jatsr_model.training.session import open_training
from jatsr_model.training.step import Stepper, autocast
from jatsr_model.training.world import World

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
Clock = Callable[[], float]
WARM = 3  # steps that are not counted


@click.command()
@click.argument("dataset", required=False)
@click.option("--model", default="mdct-s", show_default=True)
@click.option("--crop-frames", default=512, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--steps", default=30, show_default=True)
@click.option("--threads", default=2, show_default=True, help="CPU threads of torch.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option("--cpu-time", is_flag=True,
              help="Count processor time, without workers: for a shared machine.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True)
def overhead(dataset: str | None, threads: int, as_json: bool, **options: Any) -> None:
    """What the trainer adds to forward, backward and step."""
    torch.set_num_threads(threads)
    found = measure_overhead(dataset, **options)
    seconds = statistics.median(found.trainer)
    facts: dict[str, Any] = {
        "seconds of the trainer's step": seconds,
        "seconds of a bare step": statistics.median(found.bare),
        "share that the trainer adds": found.share,
        "share of waiting for data": statistics.mean(found.waited),
        "crops per second": options["batch_size"] / seconds,
    }
    if options["device"] == "cuda":
        known, frames = preset(options["model"]), options["crop_frames"]
        facts["model FLOPs utilisation"] = utilisation(known, frames, found.samples, seconds)
    if as_json:
        click.echo(json.dumps({**options, **facts}))
        return
    click.echo(f"{machine()}; {options['model']} on {options['device']}, {options['steps']} steps")
    click.echo(table(("what", "value"), [(name, f"{value:.4f}") for name, value in facts.items()]))


@dataclass
class Overhead:
    """Seconds of steps of the trainer, and of bare ones; share of the former spent on waiting."""

    trainer: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    samples: int = 0

    @property
    def share(self) -> float:
        """What the trainer adds: median of the pairs."""
        pairs = zip(self.trainer, self.bare, strict=True)
        return statistics.median(a / b for a, b in pairs) - 1


class InTurns:
    """Batches of a training; before each is read, there is a bare step."""

    def __init__(self, batches: Batches, stepper: Stepper, clock: Clock) -> None:
        self._batches, self._stepper, self._clock = batches, stepper, clock
        self.found = Overhead()

    def __iter__(self) -> Iterator[Batch]:
        clock, wall, found = self._clock, time.perf_counter, self.found
        batches = iter(self._batches)
        batch = next(batches)
        truth, given = self._stepper.feed(batch)
        # As where some are left out, whose stand-ins are trained: that is the network's work.
        there = torch.ones(len(truth.data), 2, dtype=torch.bool, device=truth.data.device)
        given = replace(given, has_low=there[:, 0], has_rolloff=there)
        noisy, t = torch.randn_like(truth.data), torch.rand(len(truth.data)).to(truth.data)
        found.samples = len(t)
        while True:
            began, began_wall = clock(), wall()
            batch = next(batches)
            waited = wall() - began_wall
            yield batch
            found.trainer.append(clock() - began)
            found.waited.append(waited / (wall() - began_wall))
            began = clock()
            self._bare(noisy, t, given, truth.data)
            found.bare.append(clock() - began)

    def _bare(self, noisy: Any, t: Any, given: Any, data: Any) -> None:
        stepper = self._stepper
        with autocast(stepper.feed.device, stepper.recipe.precision):
            out = stepper.network(noisy, t, given)
        torch.autograd.backward(functional.mse_loss(out.float(), data))
        stepper.optimizer.step()
        stepper.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Of the training's own."""
        return self._batches.state_dict()


def measure_overhead(
    dataset: str | None, *, steps: int, device: str, cpu_time: bool, **recipe: Any
) -> Overhead:
    """Train for some steps, with as many bare ones between them."""
    work = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-"))
    try:
        clock = clock_of(device, cpu_time)
        return _measure(dataset or _build(work), work / "run", steps + WARM, device, clock, recipe)
    finally:
        shutil.rmtree(work)


def _measure(
    dataset: str, folder: Path, steps: int, device: str, clock: Clock, recipe: dict[str, Any]
) -> Overhead:
    wish = Wish(
        dataset=dataset,
        recipe={**recipe, "steps": steps, "condition_dropout": 0.1},
        runtime={"device": device, "workers": 1, "val_every": 0, "sample_every": 0,
                 "save_every": steps + 1},
        places={},
    )  # fmt: skip
    with World.from_environment(device) as world, Journal(folder) as journal:
        task, _ = new_training(folder, wish, world)
        with closing(open_training(task, world, Interrupt())) as trainer:
            turns = InTurns(trainer.batches, trainer.stepper, clock)
            replace(trainer, journal=journal, batches=turns).run()  # type: ignore[arg-type]
    every = turns.found
    return Overhead(every.trainer[WARM:], every.bare[WARM:], every.waited[WARM:], every.samples)


def _build(work: Path) -> str:
    """A dataset of a few minutes of synthetic music, in the codec that needs no weights."""
    import make_music  # type: ignore[import-not-found]

    make_music.main([str(work / "music")], standalone_mode=False)
    jatsr("build", work / "music", work / "dataset")
    return str(work / "dataset")
