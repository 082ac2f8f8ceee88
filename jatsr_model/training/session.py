"""Everything a training needs, put together: new, or as a checkpoint left it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from jatsr_model.training.data import Batches, training_batches
from jatsr_model.training.ema import Ema
from jatsr_model.training.interrupt import Interrupt
from jatsr_model.training.journal import Journal
from jatsr_model.training.optimizer import make_optimizer
from jatsr_model.training.parts import Parts
from jatsr_model.training.run_folder import CHECKPOINTS
from jatsr_model.training.saving import Saving
from jatsr_model.training.schedules import schedule
from jatsr_model.training.standing import Standing
from jatsr_model.training.step import Stepper
from jatsr_model.training.task import Task
from jatsr_model.training.trainer import Trainer
from jatsr_model.training.watch import Watch
from jatsr_model.training.world import World
from shards.errors import ConfigError


def open_training(
    task: Task, world: World, interrupt: Interrupt, journal: Journal | None = None
) -> Trainer:
    """Make everything; nothing is written yet, and the journal can be given later.

    Raises:
        ConfigError: settings that do not fit the dataset, the machine or each other.
        FormatError: there is no readable dataset.
        ModelError: the checkpoint or the model to start from is damaged or another one.
    """
    parts = Parts(task, world)
    recipe, runtime = task.recipe, task.runtime
    optimizer = make_optimizer(
        parts.network, lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    ema = Ema(parts.network, recipe.ema)
    saving = Saving(
        task.folder / CHECKPOINTS, parts.network, ema, optimizer, parts.card, runtime,
        world, parts.measure,
    )  # fmt: skip
    standing = Standing() if task.checkpoint is None else saving.load(task.checkpoint)
    micro = task.micro(world.size)
    batches = training_batches(task.dataset, recipe, runtime, world)
    if task.checkpoint is not None:
        _go_on(batches, task.checkpoint.facts["batches"], accept=task.accept)
    validation = parts.validation(micro) if runtime.val_every else None
    stepper = Stepper(
        network=parts.wrapped,
        objective=parts.objective(torch.default_generator),
        feed=parts.feed,
        optimizer=optimizer,
        rate=schedule(
            recipe.schedule, lr=recipe.lr, warmup=recipe.warmup, steps=recipe.steps,
            floor=recipe.lr_floor,
        ),
        ema=ema,
        recipe=recipe,
        world=world,
        micro=micro,
        augment=parts.augment,
    )  # fmt: skip
    return Trainer(
        network=parts.network,
        stepper=stepper,
        batches=batches,
        validation=validation,
        rehearsal=parts.rehearsal() if runtime.sample_every else None,
        saving=saving,
        journal=journal,
        standing=standing,
        recipe=recipe,
        runtime=runtime,
        audio_seconds=recipe.batch_size * recipe.crop_frames * parts.manifest.seconds_per_frame,
        world=world,
        interrupt=interrupt,
        watch=Watch(
            task.folder / "bad", world, runtime.max_bad_steps, standing.left_out, standing.in_row
        ),
    )


def _go_on(batches: Batches, state: Mapping[str, Any], *, accept: bool) -> None:
    """Continue where the reader stood, or with the next epoch of another dataset."""
    try:
        batches.load_state_dict(state)
    except ConfigError as error:
        if not accept:
            raise ConfigError(
                f"--resume: {error.message}",
                hint="give the dataset as it was; --accept-changes begins a new epoch of this one",
            ) from error
        batches.set_epoch(state["epoch"] + 1)
