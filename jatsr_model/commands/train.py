"""``jatsr train``."""

from __future__ import annotations

import json
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
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
    from jatsr_model.training.standing import Standing
    from jatsr_model.training.task import Task
    from jatsr_model.training.world import World

PLACES = ("codec_weights", "start", "text_encoder")


@click.command()
@click.argument("dataset", required=False)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), default="runs",
              show_default=True, help="Folder of trainings.")  # fmt: skip
@click.option("--name", help="Of this training: its folder.  [date and time]")
@click.option("--resume", is_flag=True, help="Continue: the training --name, or the newest one.")
@click.option("--accept-changes", is_flag=True,
              help="With --resume: although options, machine or dataset have changed.")  # fmt: skip
@click.option("--start", help="Begin with the weights of this model folder or training.")
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
    from jatsr_model.training.begin import Wish, new_training, same_training
    from jatsr_model.training.claim import claimed
    from jatsr_model.training.interrupt import Interrupt
    from jatsr_model.training.run_folder import newest_run, read_run
    from jatsr_model.training.world import World

    wish = Wish(
        dataset=dataset or "",
        recipe=given(options, RECIPE, [("--losses",)]),
        runtime=given(options, RUNTIME, SWITCHES),
        places={place: options[place] for place in PLACES if options[place] is not None},
        accept=options["accept_changes"],
    )
    device = options["device"] or ""
    if options["resume"]:
        name = name or newest_run(output).name
        device = device or read_run(output / name).runtime.device
    interrupt = Interrupt()
    with World.from_environment(device) as world:
        if options["resume"]:
            folder = output / (name or "")
            task, notes = same_training(folder, wish, world)
        else:
            folder = world.of_main(output / (name or time.strftime("%Y%m%d-%H%M%S")))
            task, notes = new_training(folder, wish, world)
        if world.is_main:
            click.echo("\n".join([*notes, *announcement(task, world)]), err=True)
        if options["dry_run"]:
            return
        with claimed(task, world, resumed=options["resume"]):
            standing, finished = _run(task, world, interrupt)
        facts = outcome(task, standing, finished=finished)
        if world.is_main:
            click.echo(json.dumps(facts) if options["as_json"] else sentence(facts))
    if not finished:
        raise SystemExit(128 + (interrupt.number or signal.SIGTERM))  # 0: another rank got it
    if task.recipe.overfit and not facts["learned"]:
        raise SystemExit(1)


def _run(task: Task, world: World, interrupt: Interrupt) -> tuple[Standing, bool]:
    """Train; says where it stands, and whether that is the last step.

    The trainer ends here: networks of several ranks must be gone before the ranks part.
    """
    from jatsr_model.commands.training_bar import training_bar
    from jatsr_model.training.claim import write_run
    from jatsr_model.training.journal import Journal
    from jatsr_model.training.memory import memory_advice
    from jatsr_model.training.session import open_training

    with ExitStack() as stack:
        stack.enter_context(memory_advice(task.load(world.size), world.device))
        trainer = open_training(task, world, interrupt)
        stack.callback(trainer.close)
        if world.is_main:  # now that nothing is amiss
            write_run(task)
            if task.runtime.val_every and trainer.validation is None:
                click.echo("nothing is validated: the dataset has no split val", err=True)
            start = trainer.standing.step
            bar = training_bar(task.recipe.steps, start)
            lines = task.runtime.log_json
            journal = Journal(task.folder, json_lines=lines, bar=bar, start=start)
            trainer = replace(trainer, journal=stack.enter_context(journal))
        with interrupt:  # what comes before may be ended at once: there is nothing to save
            finished = trainer.run()
        return trainer.standing, finished
