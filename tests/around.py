"""Engines with something in between, and sessions of builds that do bad things; importable."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.engines.base import Engine, Progress, Run
from pipeline.graph import TrackSession
from pipeline.records import TrackResult


@dataclass
class Around:
    """An engine that changes the session of tracks, and tells of every result."""

    engine: Engine
    change: Callable[[TrackSession], Any] = lambda session: session
    after: Callable[[int], None] = lambda count: None  # results so far

    def run(self, session: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        if not isinstance(session, TrackSession):
            yield from self.engine.run(session, tasks)
            return
        count = 0
        for event in self.engine.run(self.change(session), tasks):
            yield event
            if isinstance(event, TrackResult):
                count += 1
                self.after(count)


def deadly(tasks: Iterator[Any], path: Callable[[Any], str]) -> Iterator[Any]:
    """Tasks, of which one whose path says so ends the process that pulls it."""
    for task in tasks:
        if "poison" in path(task):
            os.kill(os.getpid(), signal.SIGSEGV)
        yield task


@dataclass(frozen=True)
class Poisoned(TrackSession):
    """A worker dies of every track in a folder of that name."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        run = super().open(report)
        return lambda tasks: run(deadly(tasks, lambda task: task.path))


def poisoned(session: TrackSession) -> Poisoned:
    """The same session, hostile to some tracks."""
    return Poisoned(session.config, session.staged, session.sources)


def far_away(session: Any) -> Any:
    """The same session for workers that do not see the folder where it stages its results."""
    return replace(session, staged=replace(session.staged, run="of another machine"))
