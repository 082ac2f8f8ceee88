"""Who upsamples: this process, processes on this machine, or a Ray cluster.

On a CPU several files gain most from processes of one thread each, since much of the work around
the network knows no threads. On a GPU one process is enough: it samples windows of several files
together.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from jatsr_model.upsampling.model import device_for
from pipeline.engines.base import Engine, Progress
from pipeline.engines.inline import InlineEngine
from pipeline.engines.local import LocalEngine
from shards.errors import ConfigError

EngineName = Literal["inline", "local", "ray"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What was asked for.

    Attributes:
        engine: None: what is best for the number of files.
        workers: processes or actors; None: one for each GPU, or for each core.
        device: of the model; empty for the best there is.
        ray_address: of a cluster; None: ``RAY_ADDRESS``, else a private Ray.
        gpus_per_actor: of each Ray actor; None: one where the model runs on GPUs.
    """

    engine: EngineName | None = None
    workers: int | None = None
    device: str = ""
    ray_address: str | None = None
    gpus_per_actor: float | None = None


@dataclass(frozen=True)
class Crew:
    """What can do the work.

    Attributes:
        device: that the model runs on.
        where: in words; empty for this machine.
        engine: for so many files; who hears of progress at once.
    """

    device: str
    where: str
    engine: Callable[[int, Callable[[Progress], None]], Engine]


@contextlib.contextmanager
def open_crew(options: EngineOptions) -> Iterator[Crew]:
    """Find out where the model runs; connect to Ray if need be.

    Raises:
        ConfigError: there is no such device, or no cluster.
    """
    if options.engine != "ray":
        device = str(device_for(options.device))
        yield Crew(device, "", lambda files, hear: _here(options, device, files, hear))
        return
    from pipeline.engines.ray import RayEngine
    from pipeline.engines.ray_options import RayOptions

    ray_options = RayOptions(
        actors=options.workers,
        gpus_per_actor=options.gpus_per_actor,
        gpu_share=1.0,
        device=_anywhere(options.device),
        in_flight=1,
    )
    with RayEngine(options.ray_address, ray_options) as ray:
        yield Crew(ray.device, ray.describe(), lambda files, hear: ray)


def _here(
    options: EngineOptions, device: str, files: int, hear: Callable[[Progress], None]
) -> Engine:
    """An engine on this machine."""
    gpus = _gpus() if device.startswith("cuda") and ":" not in options.device else []
    at_once = (len(gpus) or 1) if device.startswith("cuda") else len(os.sched_getaffinity(0))
    workers = min(at_once if options.workers is None else options.workers, files)
    wants_processes = options.engine == "local" or (options.engine is None and workers > 1)
    if not wants_processes or workers < 1:
        return InlineEngine(hear)
    return LocalEngine(workers, gpus=gpus)


def _anywhere(device: str) -> Literal["auto", "cpu", "cuda"]:
    """A device for every machine of a cluster."""
    known: dict[str, Literal["auto", "cpu", "cuda"]] = {"": "auto", "cpu": "cpu", "cuda": "cuda"}
    if device in known:
        return known[device]
    raise ConfigError(
        f"--device {device}: a cluster needs one that every machine has",
        hint="give --device cpu or --device cuda; every actor has a GPU of its own",
    )


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
