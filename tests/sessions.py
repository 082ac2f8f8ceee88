"""Sessions that do bad things to their worker; importable by name in it."""

from __future__ import annotations

import os
import signal
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
