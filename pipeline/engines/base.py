"""What an engine is: it runs a session's work on tasks, somewhere, and reports what happens."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shards.errors import EnvironmentFailure, JatsrError

Run = Callable[[Iterator[Any]], Iterator[Any]]
"""Pulls tasks and yields one result each, in any order; a result has the ``key`` of its task.
``Partial`` stretches of it may come before it.

When it has come to its end an engine may call it again, with other tasks."""


@dataclass(frozen=True)
class Progress:
    """What a worker has done since it last said so."""

    audio_seconds: float = 0.0
    stage_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Partial:
    """A stretch of a task's result; it comes before the result and does not end the task.

    Those of a worker that dies half-way are followed by all of them from the next.
    """


@dataclass(frozen=True)
class Crashed:
    """A task that killed its worker ``times`` times, but for the first time alone."""

    task: Any
    reason: str
    times: int = 2


class Session(Protocol):
    """Picklable instructions for a worker; ``open`` is called once inside it."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        """Load what the work needs (codec, stages) and return the function that does it."""
        ...


class Engine(Protocol):
    """Runs tasks; every task ends in exactly one result or ``Crashed``."""

    def run(self, session: Session, tasks: Sequence[Any]) -> Iterator[Any]:
        """Yield results, ``Partial``, ``Crashed`` and ``Progress`` as they come.

        Raises:
            EnvironmentFailure: the machine is at fault; what was staged stays.
        """
        ...


def failure(error: BaseException) -> JatsrError:
    """What an engine raises for an exception of a session; it travels from worker processes."""
    if isinstance(error, JatsrError):
        return error
    text = "".join(traceback.format_exception(error))
    return EnvironmentFailure(
        f"a worker stopped with an unexpected {type(error).__name__}: {error}\n{text}",
        hint="this is a defect in jatsr: please report it with this text",
    )
