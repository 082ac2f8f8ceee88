"""Which checkpoints stay, and how the others go: at no moment is half of one to be seen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from pathlib import Path

from jatsr_model.model_folder import ModelError
from jatsr_model.training.checkpoints import mark, name_of, read_record, steps
from jatsr_model.whole_folders import remove, sweep
from shards.errors import ConfigError

HOURS = "hours"
_LINKS = ("best", "last")


def prune(folder: Path, keep_last: int, keep_hours: float) -> list[int]:
    """Remove checkpoints that are no longer needed, and what dead processes left.

    Not to be called while this process writes one.

    Args:
        folder: of checkpoints.
        keep_last: so many of the newest stay, and those that ``best`` and ``last`` point at.
        keep_hours: so does the first of every so many hours of training, by the fact ``hours``
            of each; 0 for none.

    Returns:
        The steps that were removed.

    Raises:
        ConfigError: nothing would stay.
    """
    if keep_last < 1:
        raise ConfigError(f"--keep {keep_last}: expected at least 1")
    sweep(folder)
    hours = {step: _hours(folder / name_of(step)) for step in steps(folder)}
    linked = {step for step in hours if name_of(step) in _targets(folder).values()}
    removed = sorted(hours.keys() - to_keep(hours, linked, keep_last, keep_hours))
    for step in removed:
        remove(folder / name_of(step))
    return removed


def to_keep(
    hours: Mapping[int, float | None], linked: Set[int], keep_last: int, keep_hours: float
) -> set[int]:
    """Decide; see ``prune``.

    Args:
        hours: of training by step; None where this is not known.
        linked: steps that links point at.
        keep_last: at least 1.
        keep_hours: 0 for none.
    """
    ascending = sorted(hours)
    first: dict[float, int] = {}
    for step in ascending:
        time = hours[step]
        if keep_hours > 0 and time is not None:
            first.setdefault(time // keep_hours, step)
    return {*ascending[-keep_last:], *linked, *first.values()}


def set_aside_after(folder: Path, step: int) -> list[int]:
    """Rename the checkpoints after a step from which training is continued: ``STEP.damaged``.

    Left there, they would be in its way. They are not deleted, since it may be that they could only
    not be read. ``last`` points at the step then; a ``best`` whose checkpoint went is removed.

    Returns:
        The steps that were renamed.

    Raises:
        ModelError: there is no checkpoint of this step.
    """
    mark(folder, "last", step)
    renamed = [later for later in steps(folder) if later > step]
    for later in reversed(renamed):
        path = folder / name_of(later)
        aside = path.with_suffix(".damaged")
        if aside.exists():
            remove(aside)
        path.rename(aside)
    for link in _targets(folder):
        if not (folder / link).exists():
            (folder / link).unlink()
    return renamed


def _targets(folder: Path) -> dict[str, str]:
    """Where links point, whether or not there is something."""
    return {n: os.readlink(folder / n) for n in _LINKS if (folder / n).is_symlink()}


def _hours(path: Path) -> float | None:
    try:
        value = read_record(path)["facts"].get(HOURS)
    except ModelError:  # damaged; it goes when it is no longer among the last
        return None
    return value if isinstance(value, int | float) else None
