"""Out of memory: which setting to change, and to what.

What a training needs is counted by ``jatsr_model.dit.measure``, a lower bound. Since it was too
much, it was at least what was free: by how much the count fell short is charged to the activations,
in proportion.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from jatsr_model.dit import PRESETS
from jatsr_model.dit.measure import TRAINING_BYTES, measure, parameters_by_module
from jatsr_model.dit.recipe import Preset
from shards.errors import EnvironmentFailure

ROOM = 0.9  # share of the memory that advice fills; allocators and kernels take some
GRAIN = 16  # latent frames; advice on crops is in multiples of it
_SIGNS = ("out of memory", "can't allocate memory", "alloc_failed")


@dataclass(frozen=True)
class Load:
    """What is trained at once.

    Args:
        preset: of the network.
        batch: crops of which activations are in memory.
        frames: latent frames of a crop.
        recompute: whether blocks compute their activations again.
        shards: ranks that share weights, gradients and moments.
        channels: of a crop, each of which is a sample.
    """

    preset: Preset
    batch: int
    frames: int
    recompute: bool
    shards: int = 1
    channels: int = 1

    @cached_property
    def state(self) -> float:
        """Bytes of weights, gradients, moments and average."""
        return TRAINING_BYTES * sum(parameters_by_module(self.preset.config).values()) / self.shards

    @cached_property
    def crop(self) -> int:
        """Bytes of the activations of one crop."""
        cost = measure(self.preset, self.frames / self.preset.frame_rate)
        sample = cost.recomputed_bytes if self.recompute else cost.activation_bytes
        return self.channels * sample


def advice(load: Load, free_bytes: int) -> str:
    """What to change after there was too little memory.

    Args:
        load: that was too much.
        free_bytes: all that the training could have had on the device.

    Returns:
        one sentence that names flags and numbers.
    """
    short = max(1.0, (free_bytes - load.state) / (load.batch * load.crop))
    room = ROOM * free_bytes
    found = _smaller_batches(load, short, room) or _shorter_crops(load, short, room)
    found = found or _smaller_models(load, short, room)
    if found:
        return "use " + ", or ".join(found)
    least = _alone(min(_models(load), key=lambda other: other.state))
    needed = (least.state + short * least.crop) / ROOM / 1e9
    return (
        f"no network for these latents fits; --model {least.preset.name} with {_flags(least)} "
        f"would need a device with {needed:.1f} GB free"
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


@contextmanager
def memory_advice(load: Load, device: torch.device) -> Iterator[None]:
    """Turn what fails inside for want of memory into an error that says what to change.

    Raises:
        EnvironmentFailure: there was too little memory.
    """
    free = free_memory(device)  # asked now: afterwards the device may not answer
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        needed = (load.state + load.batch * load.crop) / 1e9
        raise EnvironmentFailure(
            f"out of memory on {device}: {load.preset.name} with {load.batch} crops of "
            f"{load.frames} frames at once needs at least {needed:.1f} GB, "
            f"{free / 1e9:.1f} GB could be had",
            hint=advice(load, free),
        ) from error


def free_memory(device: torch.device) -> int:
    """Bytes that this process has or could have on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(line for line in lines if line.startswith("MemAvailable:"))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return int(available.split()[1]) * 1024 + pages * os.sysconf("SC_PAGE_SIZE")


def _smaller_batches(load: Load, short: float, room: float) -> list[str]:
    """With and without recomputing; the latter if it allows for larger batches."""
    found: list[str] = []
    largest = 0
    for recompute in sorted({load.recompute, True}):
        batch = _batch(replace(load, recompute=recompute), short, room)
        if batch > largest:
            largest = batch
            found.append(_flags(replace(load, recompute=recompute, batch=batch), load))
    return found


def _batch(load: Load, short: float, room: float) -> int:
    """The largest divisor of the batch that fits: so a step is still made of whole ones."""
    most = math.floor((room - load.state) / (short * load.crop))
    fitting = range(min(most, load.batch), 0, -1)
    return next((batch for batch in fitting if load.batch % batch == 0), 0)


def _shorter_crops(load: Load, short: float, room: float) -> list[str]:
    """Activations grow with the length, so a share of it is tried, and what is below."""
    alone = _alone(load)
    left = room - load.state
    share = min(load.frames - 1, int(load.frames * left / (short * alone.crop)))
    frames = share // GRAIN * GRAIN
    while frames > 0:
        shorter = replace(alone, frames=frames)
        if short * shorter.crop <= left:
            return [f"--crop-frames {frames} with {_flags(shorter)} in a new training"]
        frames = min(frames - GRAIN, frames * 9 // 10) // GRAIN * GRAIN
    return []


def _smaller_models(load: Load, short: float, room: float) -> list[str]:
    """The largest of the networks on these latents that fits; with the whole batch if it can."""
    state = load.state
    smaller = [other for other in _models(load) if other.state < state]
    for other in sorted(smaller, key=lambda one: one.state, reverse=True):
        found = _smaller_batches(other, short, room)
        if found:
            flags = f"--model {other.preset.name} {found[0]}".rstrip()
            return [f"{flags} in a new training"]
    return []


def _models(load: Load) -> list[Load]:
    space = load.preset.space
    return [replace(load, preset=other) for other in PRESETS.values() if other.space == space]


def _alone(load: Load) -> Load:
    return replace(load, batch=1, recompute=True)


def _flags(load: Load, before: Load | None = None) -> str:
    """Options for batch and recomputing that differ from before; all of them without."""
    flags = []
    if before is None or load.recompute != before.recompute:
        flags.append("--recompute" if load.recompute else "")
    if before is None or load.batch != before.batch:
        flags.append(f"--micro-batch {load.batch}")
    return " ".join(filter(None, flags))
