"""The folder of a training, held by the process that trains in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from jatsr_model.model_folder import ModelError
from jatsr_model.training.checkpoints import mark, name_of, steps, verify
from jatsr_model.training.retention import set_aside_after
from jatsr_model.training.run_folder import CHECKPOINTS, LOCK, RUN, RunFile, expect_no_training
from jatsr_model.training.task import Task
from jatsr_model.training.world import World
from shards.errors import ConfigError
from shards.files import file_lock


@contextmanager
def claimed(task: Task, world: World, *, resumed: bool) -> Iterator[None]:
    """Hold the folder of a training; the main rank does it for all.

    Args:
        task: whose folder it is.
        world: of ranks.
        resumed: whether the folder holds this training already.

    Raises:
        ConfigError: another process trains in it, or has done so since ``task`` was made.
    """
    if not world.is_main:
        yield
        return
    folder = task.folder
    with file_lock(folder / LOCK, folder, doing="training in", name="--name"):
        try:
            if not resumed:
                expect_no_training(folder)
            _expect_none_after(folder / CHECKPOINTS, _step(task))
            yield
        finally:
            if not (folder / RUN).exists():  # nothing was begun: nothing is left
                (folder / LOCK).unlink()
                with suppress(OSError):
                    folder.rmdir()


def write_run(task: Task) -> None:
    """Make a folder that of this training, which goes on from here.

    Damaged checkpoints of later steps are set aside: they would be in its way.
    """
    folder = task.folder / CHECKPOINTS
    if task.checkpoint and set_aside_after(folder, task.checkpoint.step):
        best = task.checkpoint.facts["standing"]["best_step"]
        if best in steps(folder):
            mark(folder, "best", best)
    libraries = {name: version(name) for name in ("jatsr", "torch", "numpy")}
    RunFile(task.dataset, task.recipe, task.runtime, task.places, libraries).write(task.folder)


def _step(task: Task) -> int:
    return task.checkpoint.step if task.checkpoint else -1


def _expect_none_after(folder: Path, step: int) -> None:
    """Later checkpoints are damaged ones, which were passed over; others have come meanwhile."""
    for later in steps(folder):
        if later > step and _is_intact(folder / name_of(later)):
            raise ConfigError(
                f"--resume: meanwhile another process has trained up to step {later} in {folder}",
                hint="run the same command again: it continues from there",
            )


def _is_intact(path: Path) -> bool:
    try:
        verify(path)
    except ModelError:
        return False
    return True
