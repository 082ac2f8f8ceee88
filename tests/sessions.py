"""Sessions that do bad things to their worker; importable by name in it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.engines.base import Progress, Run
from pipeline.engines.echo import EchoTask
from shards.errors import EnvironmentFailure


@dataclass(frozen=True)
class HostileSession:
    """Holds results back like a pool does, and does to its process what a key asks for."""

    hold: int = 2

    def open(self, report: Callable[[Progress], None]) -> Run:
        def run(tasks: Iterator[EchoTask]) -> Iterator[EchoTask]:
            held: list[EchoTask] = []
            for task in tasks:
                if "segfault" in task.key:
                    os.kill(os.getpid(), signal.SIGSEGV)
                if "once" in task.key and not os.path.exists(task.key):
                    with open(task.key, "w"):
                        os.kill(os.getpid(), signal.SIGKILL)
                if "hang" in task.key:
                    time.sleep(60)
                if "bug" in task.key:
                    raise ZeroDivisionError("a defect")
                if "full" in task.key:
                    raise EnvironmentFailure("disk full")
                held.append(task)
                if len(held) > self.hold:
                    yield held.pop(0)
            yield from held

        return run


@dataclass(frozen=True)
class StillbornSession:
    def open(self, report: Callable[[Progress], None]) -> Run:
        os._exit(3)


@dataclass(frozen=True)
class Placed:
    """A result: which process worked on a task."""

    key: str
    pid: int
    node: str


@dataclass(frozen=True)
class SlowSession:
    """Takes its time, holds results back like a pool, and says where it ran."""

    seconds: float = 0.05
    hold: int = 0

    def open(self, report: Callable[[Progress], None]) -> Run:
        ray = sys.modules.get("ray")
        inside = ray is not None and ray.is_initialized()
        node = ray.get_runtime_context().get_node_id() if inside else ""

        def run(tasks: Iterator[EchoTask]) -> Iterator[Placed]:
            held: list[Placed] = []
            for task in tasks:
                time.sleep(self.seconds)
                held.append(Placed(task.key, os.getpid(), node))
                if len(held) > self.hold:
                    yield held.pop(0)
            yield from held

        return run


@dataclass(frozen=True)
class Big:
    """A large result."""

    key: str
    load: bytes


@dataclass(frozen=True)
class BigSession:
    """Results of ``size`` bytes, as fast as they are taken."""

    size: int

    def open(self, report: Callable[[Progress], None]) -> Run:
        def run(tasks: Iterator[EchoTask]) -> Iterator[Big]:
            for task in tasks:
                yield Big(task.key, bytes(self.size))

        return run


@dataclass(frozen=True)
class GpuSession:
    """Says which GPUs its process may use, in the place of a node."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        def run(tasks: Iterator[EchoTask]) -> Iterator[Placed]:
            for task in tasks:
                yield Placed(task.key, os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"])

        return run
