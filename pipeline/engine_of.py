"""The engines of a build and the codec that they run, from its options."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from jatsr_model.codecs import CodecSpec, resolve
from pipeline.config import BuildConfig
from pipeline.engines.base import Engine
from pipeline.engines.inline import InlineEngine
from pipeline.engines.local import LocalEngine


@dataclass(frozen=True)
class Engines:
    """What runs the parts of a build.

    Attributes:
        codec: as resolved for where it will run.
        work: scans and builds tracks.
        here: runs on this machine.
        workers: how many tracks are built at the same time.
        where: in words; empty for this machine.
    """

    codec: CodecSpec
    work: Engine
    here: Engine
    workers: int
    where: str = ""

    def assembly(self, anywhere: bool) -> Engine:
        """For shards: where the parts are, which is on this machine unless in object storage."""
        return self.work if anywhere else self.here


@contextlib.contextmanager
def open_engines(config: BuildConfig) -> Iterator[Engines]:
    """Start what runs a build, and end it.

    Raises:
        ConfigError: a codec that cannot be, or a cluster that is not there.
    """
    if config.engine == "local":
        codec = resolve(config.codec_config)
        workers = default_workers(codec.device) if config.workers is None else config.workers
        engine = LocalEngine(workers) if workers else InlineEngine()
        yield Engines(codec, engine, engine, max(1, workers))
        return
    from pipeline.engines.ray import RayEngine
    from pipeline.engines.ray_options import RayOptions

    options = RayOptions(
        actors=config.encode_actors,
        gpus_per_actor=config.gpus_per_actor,
        cpus_per_actor=config.cpu_per_task,
        in_flight=config.in_flight,
        device="cpu" if config.codec == "mdct" else config.device,
    )
    with RayEngine(config.ray_address, options) as ray:
        codec = resolve(replace(config.codec_config, device=ray.device, here=False))
        yield Engines(codec, ray, LocalEngine(default_workers("cpu")), ray.workers, ray.describe())


def default_workers(device: str) -> int:
    """One process per core that this process may use; few where they share a GPU."""
    cores = len(os.sched_getaffinity(0))
    return min(2, cores) if device == "cuda" else cores
