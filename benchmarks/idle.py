"""Work that is none, importable by the actors of ray_scheduling.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.engines.base import Engine, Progress, Run
from pipeline.graph import TrackSession
from pipeline.plan import TrackTask
from pipeline.records import TrackResult


@dataclass(frozen=True)
class IdleSession:
    """Says that tracks are done without looking at them."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        """See ``Session``."""

        def run(tasks: Iterator[TrackTask]) -> Iterator[TrackResult]:
            for task in tasks:
                report(Progress(audio_seconds=1.0))
                yield TrackResult(task.track, "ok", seconds=1.0, excerpts=1)

        return run


@dataclass(frozen=True)
class IdleEngine:
    """An engine whose workers do nothing for tracks, and everything else."""

    engine: Engine

    def run(self, session: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        """See ``Engine``."""
        idle = isinstance(session, TrackSession)
        return self.engine.run(IdleSession() if idle else session, tasks)
