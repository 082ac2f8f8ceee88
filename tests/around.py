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


@dataclass(frozen=True)
class Poisoned(TrackSession):
    """A worker dies of every track in a folder of that name."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        run = super().open(report)

        def checked(tasks: Iterator[Any]) -> Iterator[Any]:
            for task in tasks:
                if "poison" in task.path:
                    os.kill(os.getpid(), signal.SIGSEGV)
                yield task

        return lambda tasks: run(checked(tasks))


def poisoned(session: TrackSession) -> Poisoned:
    """The same session, hostile to some tracks."""
    return Poisoned(session.config, session.staged, session.sources)


def far_away(session: TrackSession) -> TrackSession:
    """The same session for workers that do not see the staging folder."""
    return replace(session, staged=replace(session.staged, run="of another machine"))
