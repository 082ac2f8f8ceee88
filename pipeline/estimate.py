"""What a planned build will cost, measured on this machine with a short probe."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from jatsr_model.codecs import CodecSpec
from jatsr_model.codecs.registry import resolve_device
from pipeline.captions import parse_chain
from pipeline.config import BuildConfig
from pipeline.graph import Graph, GraphConfig
from pipeline.parts import PartStore
from pipeline.plan import Plan, TrackTask
from shards.storage import LocalStore

_PROBE_SECONDS = 12.0
_OVERHEAD_BYTES = 1024  # tar header, npy header and padding of one member


@dataclass(frozen=True)
class Estimate:
    """Cost of a build."""

    bytes: int  # of the shards; a build needs twice that until it is published
    seconds: float  # of wall time
    realtime: float  # audio seconds per second, all workers together
    workers: int


def estimate(plan: Plan, config: BuildConfig, codec: CodecSpec, workers: int) -> Estimate:
    """Estimate size and time of a plan.

    Args:
        plan: what will be built.
        config: the options.
        codec: as resolved.
        workers: how many tracks are built at the same time.

    The probe runs the real stages on synthetic audio; a network codec runs uncompiled in it, so
    long builds of that codec are faster than estimated.
    """
    excerpts = sum(math.ceil(task.seconds / config.excerpt_seconds) for task in plan.tasks)
    members = 5 + len(config.low_res)
    size = plan.seconds * config.stored_bytes_per_second(codec)
    size += excerpts * members * _OVERHEAD_BYTES
    workers = min(workers, max(1, len(plan.tasks)))
    speed = _probe(config, codec) * workers if plan.tasks else 0.0
    return Estimate(int(size), plan.seconds / speed if speed else 0.0, speed, workers)


def _probe(config: BuildConfig, codec: CodecSpec) -> float:
    """Audio seconds per second of one worker."""
    from jatsr_model.codecs import load

    with tempfile.TemporaryDirectory(prefix="jatsr-probe-") as folder:
        path = Path(folder, "probe.flac")
        noise = np.random.default_rng(0).standard_normal((int(_PROBE_SECONDS * 44100), 2)) * 0.1
        soundfile.write(path, noise, 44100)
        info = path.stat()
        task = TrackTask("0" * 24, str(path), _PROBE_SECONDS, info.st_size, info.st_mtime_ns)
        here = resolve_device("auto") if codec.device == "cuda" else "cpu"
        eager = replace(codec, compile=False, device=here)
        graph = Graph(
            GraphConfig(
                codec=eager,
                channels=config.channels,
                low_res=config.low_res,
                gain=config.gain_policy,
                captions=parse_chain("none"),
                model_captions={},
                excerpt_frames=config.excerpt_frames(codec),
            ),
            load(eager),
            PartStore(LocalStore(Path(folder, "parts"))),
            Path(folder),
            lambda _: None,
        )
        began = time.perf_counter()
        list(graph.run(iter([task])))
        return _PROBE_SECONDS / (time.perf_counter() - began)
