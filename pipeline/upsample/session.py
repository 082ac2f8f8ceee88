"""What a worker does: it loads the model once and upsamples one file after the other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.rendering import Job, Result
from pipeline.delivery import Staged
from pipeline.engines.base import Progress, Run
from pipeline.fetch import local_copy
from pipeline.upsample.delivery import Outbox, Piece, open_outbox, staged_name
from pipeline.upsample.upsampler import Upsampler
from shards.errors import ChangedError, ConfigError, EnvironmentFailure
from shards.files import sha256_file


@dataclass(frozen=True)
class Task:
    """A file to be upsampled.

    Attributes:
        key: name of its output.
        source: an absolute path, or a URL.
        known: sha256 of the content of which the output is there already; empty if it is not.
    """

    key: str
    source: str
    known: str = ""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of it.

    Attributes:
        key: name of its output.
        status: that of a ``Result``; ``kept``: the output is there already.
        reason: why, if not ``ok``.
        hint: what can be done about it.
        facts: for the ledger.
        staged: name of the output among what is staged; empty if there is none.
    """

    key: str
    status: str
    reason: str = ""
    hint: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    staged: str = ""


@dataclass(frozen=True, kw_only=True)
class UpsampleSession:
    """Upsamples files; runs on any engine.

    Args:
        upsampler: how.
        staged: where outputs are staged.
        ending: of outputs.
        files: local paths that a worker must see, with the names of their options.
    """

    upsampler: Upsampler
    staged: Staged
    ending: str
    files: tuple[tuple[str, str], ...] = ()

    def open(self, report: Callable[[Progress], None]) -> Run:
        """See ``Session``."""
        for option, path in self.files:
            _expect_visible(option, path)
        renderer = self.upsampler.renderer()

        def run(tasks: Iterator[Task]) -> Iterator[Done | Piece]:
            with open_outbox(self.staged, self.ending) as outbox:
                yield from Worker(renderer, outbox, report, self.upsampler.facts).run(tasks)

        return run


class Worker:
    """Tasks to results.

    Args:
        renderer: makes outputs.
        outbox: takes them.
        report: called with progress.
        facts: of every output.
    """

    def __init__(
        self,
        renderer: Renderer,
        outbox: Outbox,
        report: Callable[[Progress], None],
        facts: dict[str, Any],
    ) -> None:
        self._renderer, self._outbox, self._facts = renderer, outbox, facts
        self._report = report
        self._keys: dict[Path, str] = {}  # by output, of tasks that have not ended

    def run(self, tasks: Iterator[Task]) -> Iterator[Done | Piece]:
        """One result for each task, perhaps after the pieces of its output."""
        results = self._renderer.run(self._jobs(tasks), self._advance)
        with closing(results):
            for job, result in results:
                made = result.status in ("ok", "passed-through")
                digest = {"sha256": job.digest} if job.digest else {}
                if made:
                    yield from self._outbox.send(job.target)
                yield Done(
                    key=self._keys.pop(job.target),
                    status=result.status,
                    reason=result.reason,
                    hint=result.hint,
                    facts={**digest, **(self._facts if made else {}), **result.facts},
                    staged=staged_name(job.target) if made else "",
                )

    def _advance(self, seconds: float) -> None:
        self._report(Progress(audio_seconds=seconds))

    def _jobs(self, tasks: Iterator[Task]) -> Iterator[Job | tuple[Job, Result]]:
        """What is to be rendered; a source that was copied stays until the next is asked for."""
        for task in tasks:
            self._report(Progress())
            target = self._outbox.path(task.key)
            self._keys[target] = task.key
            with ExitStack() as stack:
                yield self._look(task, target, stack)

    def _look(self, task: Task, target: Path, stack: ExitStack) -> Job | tuple[Job, Result]:
        try:
            source = stack.enter_context(local_copy(task.source))
            digest = sha256_file(source)
        except ChangedError as error:
            return _unread(task, target, "changed while it was read", error.hint)
        except ConfigError as error:  # access to this one is denied
            return _unread(task, target, error.message, error.hint)
        except OSError as error:
            return _unread(task, target, error.strerror or str(error))
        job = Job(source=source, target=target, digest=digest)
        if digest == task.known:
            return job, Result(status="kept", facts={})
        return job


def _unread(task: Task, target: Path, why: str, hint: str = "") -> tuple[Job, Result]:
    job = Job(source=Path(task.source), target=target, digest="")
    return job, Result(status="failed", reason=f"cannot be read: {why}", hint=hint, facts={})


def _expect_visible(option: str, path: str) -> None:
    if os.path.exists(path):
        return
    raise EnvironmentFailure(
        f"{socket.gethostname()}: {option} {path} is not there",
        hint="every machine must see it under the same path: put it on a shared file system, or "
        "give IN as the URL of a bucket",
    )
