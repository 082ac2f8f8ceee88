"""``jatsr train``."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jatsr_model.commands.train_facts import announcement, outcome, sentence
from jatsr_model.commands.train_options import (
    RECIPE,
    RUNTIME,
    SWITCHES,
    given,
    training_options,
)

if TYPE_CHECKING:
    from jatsr_model.training.interrupt import Interrupt
    from jatsr_model.training.task import Task
    from jatsr_model.training.trainer import Trainer
    from jatsr_model.training.world import World

PLACES = ("codec_weights", "start", "text_encoder")


@click.command()
@click.argument("dataset", required=False)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default="runs",
              show_default=True, help="Folder of trainings.")  # fmt: skip
@click.option("--name", help="Of this training: its folder.  [model and time]")
@click.option("--resume", is_flag=True, help="Continue: the training --name, or the newest one.")
@click.option("--accept-changes", is_flag=True,
              help="With --resume: although options, machine or dataset have changed.")  # fmt: skip
@click.option("--start", help="Begin with the weights of this model folder.")
@training_options
@click.option("--text-encoder",
              help="Folder or name of a T5 encoder for captions, or off.  [t5-base if the model "
              "takes text and its files are there]")  # fmt: skip
@click.option("--codec-weights", help="Weights that the dataset was made with.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(dataset: str | None, output: Path, name: str | None, **options: Any) -> None:
    """Train a diffusion transformer on DATASET, which jatsr build has made.

    Writes checkpoints, TensorBoard's files and the log to OUTPUT/NAME. Ctrl-C and SIGTERM save
    first. On several GPUs: torchrun --nproc-per-node 8 --no-python jatsr train DATASET ...
    """
    if dataset is None and not options["resume"]:
        raise click.UsageError("DATASET is missing (only --resume knows it)")
    from jatsr_model.training.begin import Wish, new_training, same_training, write_run
    from jatsr_model.training.interrupt import Interrupt
    from jatsr_model.training.run_folder import LOCK, newest_run
    from jatsr_model.training.world import World
    from shards.files import file_lock

    wish = Wish(
        dataset=dataset or "",
        recipe=given(options, RECIPE, [("--losses",)]),
        runtime=given(options, RUNTIME, SWITCHES),
        places={place: options[place] for place in PLACES if options[place] is not None},
        accept=options["accept_changes"],
    )
    with World.from_environment(options["device"] or "") as world, Interrupt() as interrupt:
        if options["resume"]:
            folder = output / name if name else world.of_main(newest_run(output))
            task, notes = same_training(folder, wish, world)
        else:
            folder = world.of_main(output / (name or time.strftime("%Y%m%d-%H%M%S")))
            task, notes = new_training(folder, wish, world)
        if world.is_main:
            click.echo("\n".join([*notes, *announcement(task, world)]), err=True)
        if options["dry_run"]:
            return
        lock = file_lock(folder / LOCK, folder, doing="training in", name="--name")
        with lock if world.is_main else nullcontext():
            if world.is_main:
                write_run(task)
            trainer, finished = _run(task, world, interrupt)
        facts = outcome(task, trainer.standing, finished=finished)
        if world.is_main:
            click.echo(json.dumps(facts) if options["as_json"] else sentence(facts))
    if not finished:
        raise SystemExit(128 + interrupt.number)
    if task.recipe.overfit and not facts["learned"]:
        raise SystemExit(1)


def _run(task: Task, world: World, interrupt: Interrupt) -> tuple[Trainer, bool]:
    """Train; says whether the last step was reached."""
    from jatsr_model.commands.training_bar import training_bar
    from jatsr_model.training.journal import Journal
    from jatsr_model.training.memory import memory_advice
    from jatsr_model.training.session import open_training

    step = task.checkpoint.step if task.checkpoint else 0
    with ExitStack() as stack:
        stack.enter_context(memory_advice(task.load(world.size), world.device))
        journal = None
        if world.is_main:
            bar = training_bar(task.recipe.steps, step)
            lines = task.runtime.log_json
            journal = Journal(task.folder, json_lines=lines, bar=bar, start=step)
            stack.callback(journal.close)
        trainer = open_training(task, world, interrupt, journal)
        stack.callback(trainer.close)
        return trainer, trainer.run()
