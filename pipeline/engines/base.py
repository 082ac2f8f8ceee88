"""What an engine is: it runs a session's work on tasks, somewhere, and reports what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Run = Callable[[Iterator[Any]], Iterator[Any]]
"""Pulls tasks and yields one result each, in any order; a result has the ``key`` of its task."""


@dataclass(frozen=True)
class Progress:
    """What a worker has done since it last said so."""

    audio_seconds: float = 0.0
    stage_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Crashed:
    """A task that killed its worker twice, the second time alone."""

    task: Any
    reason: str


class Session(Protocol):
    """Picklable instructions for a worker; ``open`` is called once inside it."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        """Load what the work needs (codec, stages) and return the function that does it."""
        ...


class Engine(Protocol):
    """Runs tasks; every task ends in exactly one result or ``Crashed``."""

    def run(self, session: Session, tasks: Sequence[Any]) -> Iterator[Any]:
        """Yield results, ``Crashed`` and ``Progress`` as they come.

        Raises:
            EnvironmentFailure: the machine is at fault; what was staged stays.
        """
        ...
