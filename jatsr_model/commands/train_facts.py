"""What ``jatsr train`` says before and after."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jatsr_model.training.run_folder import CHECKPOINTS

if TYPE_CHECKING:
    from jatsr_model.training.standing import Standing
    from jatsr_model.training.task import Task
    from jatsr_model.training.world import World

LEARNED = 0.02  # of the power of a crop learned by heart may be wrong in what is sampled of it


def announcement(task: Task, world: World) -> list[str]:
    """What will be trained, on what, where; lines for people."""
    from jatsr_model.dit import preset
    from jatsr_model.dit.measure import parameters_by_module

    recipe, runtime = task.recipe, task.runtime
    known = preset(recipe.model)
    count = sum(parameters_by_module(known.config).values())
    seconds = recipe.crop_frames / known.frame_rate
    ranks = f"{world.size} x " if world.size > 1 else ""
    shared = f", {runtime.strategy}" if world.size > 1 else ""
    losses = ", ".join(f"{weight:g} {name}" for name, weight in recipe.losses.items() if weight)
    begins = f"step {task.checkpoint.step} of " if task.checkpoint else ""
    crops = "crop" if recipe.overfit == 1 else "crops"
    learned = f"{recipe.overfit} {crops} by heart of " if recipe.overfit else ""
    timed = "" if known.prediction == "envelope" else f"; t {recipe.times}"
    return [
        f"model    {recipe.model}, {count / 1e6:.1f} M parameters, {recipe.precision} on "
        f"{ranks}{world.device}{shared}",
        f"data     {learned}{task.dataset}, {recipe.batch_size} crops of {seconds:.1f} s per step",
        f"loss     {losses}{timed}",
        f"steps    {begins}{recipe.steps}, {recipe.schedule} from {recipe.lr:g}",
        f"folder   {task.folder}",
    ]


def outcome(task: Task, standing: Standing, *, finished: bool) -> dict[str, Any]:
    """How it ended, JSON-ready."""
    checkpoints = task.folder / CHECKPOINTS
    found = {
        "folder": str(task.folder),
        "finished": finished,
        "checkpoint": str((checkpoints / "last").resolve()),
        "model": str(checkpoints / "best") if standing.best_step > 0 else None,
        **standing.to_json(),
    }
    if task.recipe.overfit and finished:
        found["learned"] = standing.sample_error < LEARNED
    return found


def sentence(facts: Mapping[str, Any]) -> str:
    """The same for people."""
    folder = Path(facts["folder"])
    lines = [f"{'finished' if facts['finished'] else 'stopped'} at step {facts['step']}, "
             f"saved in {facts['checkpoint']}"]  # fmt: skip
    if facts["model"]:
        lines.append(
            f"best validation loss {facts['best']:.4g} at step {facts['best_step']}: "
            f"{facts['model']}"
        )
    if facts["left_out"]:
        lines.append(f"{facts['left_out']} steps left out: gradients were not finite")
    if "learned" in facts:
        error = math.nan if facts["sample_error"] is None else facts["sample_error"]
        verdict = "learned" if facts["learned"] else f"NOT learned (expected below {LEARNED})"
        lines.append(f"sampled from noise, the crop differs by {error:.2%} of its power: {verdict}")
    if not facts["finished"]:
        where = ["--output", str(folder.parent), "--name", folder.name]
        lines.append("continue with: " + shlex.join(["jatsr", "train", "--resume", *where]))
    return "\n".join(lines)
