"""Many files by an engine: results become rows of the ledger, then outputs get their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from pipeline.engines.base import Crashed, Engine, Progress, Session
from pipeline.tally import Breaker
from pipeline.upsample.delivery import Inbox, Piece
from pipeline.upsample.names import Planned
from pipeline.upsample.plan import Plan, Work
from pipeline.upsample.session import Done, Task
from shards.files import printable
from shards.storage import is_url


class Ui(Protocol):
    """How a run tells what it is doing."""

    def note(self, message: str) -> None:
        """Say something once."""
        ...

    def start(self, seconds: float) -> None:
        """So many seconds of audio are to be read."""
        ...

    def advance(self, seconds: float) -> None:
        """So many were."""
        ...


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        rows: of the files, as in the ledger.
        kept: how many of them an earlier run has done.
        seconds: of audio that this run has done.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    kept: int = 0
    seconds: float = 0.0

    @property
    def counts(self) -> Counter[str]:
        """Files by status."""
        return Counter(str(row["status"]) for row in self.rows)

    @property
    def failed_share(self) -> float:
        """Failed files among those that are audio."""
        audio = len(self.rows) - self.counts["skipped"]
        return self.counts["failed"] / audio if audio else 0.0


class Batch:
    """Upsamples files; every one of them gets a row.

    Args:
        work: what there is.
        engine: does it.
        session: an ``UpsampleSession``.
        ui: told of progress and of every failure.
    """

    def __init__(self, work: Work, engine: Engine, session: Session, ui: Ui) -> None:
        self._work, self._engine, self._session, self._ui = work, engine, session, ui
        self._outcome = Outcome()

    def run(self, plan: Plan, limit: int) -> Outcome:
        """Do it, once.

        Args:
            plan: of the work. The engine is not asked for anything if nothing is to do.
            limit: failures in a row that end the run.

        Raises:
            EnvironmentFailure: the machine is at fault; what is done is in the ledger.
        """
        ledger, outcome = self._work.ledger, self._outcome
        known = frozenset() if ledger is None else ledger.failed
        outcome.kept = len(plan.done)
        outcome.rows += map(self._work.row, plan.done)
        self._record_others(plan)
        if plan.todo:
            breaker = Breaker(limit, known)
            self._ui.start(plan.seconds)
            with closing(self._results(plan.todo)) as results:
                for item, done in results:
                    self._take(item, done)
                    breaker.see(done)
        if ledger is not None:
            ledger.close()
        return outcome

    def _results(self, todo: Sequence[Planned]) -> Generator[tuple[Planned, Done], None, None]:
        """Every file with what became of it; progress goes where it belongs."""
        items = {item.name: item for item in todo}
        inbox = Inbox(self._work.folder.staged)
        events = self._engine.run(self._session, [self._task(item) for item in todo])
        with closing(cast("Generator[Any, None, None]", events)):
            for event in events:
                if isinstance(event, Progress):
                    self._ui.advance(event.audio_seconds)
                elif isinstance(event, Piece):
                    inbox.take(event)
                else:
                    done = _crash(event) if isinstance(event, Crashed) else event
                    if done.staged:
                        inbox.expect(done.staged, done.facts["out_sha256"])
                    yield items[done.key], done

    def _task(self, item: Planned) -> Task:
        source = item.source if is_url(item.source) else os.path.abspath(item.source)
        known = str(self._work.row(item)["sha256"]) if self._work.is_current(item) else ""
        return Task(item.name, source, known)

    def _take(self, item: Planned, done: Done) -> None:
        """Enter a result in the ledger; then the output gets its name."""
        if done.status == "kept":
            self._outcome.kept += 1
            row = {**self._work.row(item), **_of(item)}
        else:
            self._outcome.seconds += done.facts.get("seconds", 0.0)
            row = self._new_row(item, done)
        self._record([row])
        if done.staged:
            self._work.folder.place(done.staged, item.target)

    def _record_others(self, plan: Plan) -> None:
        """Rows of what nobody has to look into."""
        outputs = {item.name for item in self._work.files if not item.skipped}
        rows = [(item, self._new_row(item, done)) for item, done in plan.other]
        # What is no audio may be named like an output: the ledger has the row of the output.
        self._record([row for item, row in rows if not (item.skipped and item.name in outputs)])
        self._outcome.rows += [r for item, r in rows if item.skipped and item.name in outputs]

    def _record(self, rows: Sequence[dict[str, Any]]) -> None:
        self._outcome.rows += rows
        if self._work.ledger is not None:
            self._work.ledger.add(rows)
        for row in rows:
            if row["status"] == "failed":
                self._ui.note(f"failed: {row['source']}: {row['reason']}")

    def _new_row(self, item: Planned, done: Done) -> dict[str, Any]:
        facts = {"status": done.status, "reason": printable(done.reason), **done.facts}
        if done.hint:
            facts["hint"] = printable(done.hint)
        return {"name": item.name, "settings": self._work.settings, **_of(item), **facts}


def _of(item: Planned) -> dict[str, Any]:
    """What a row says of the input as it is now."""
    return {
        "source": item.shown,
        "input": printable(item.place),
        "in_bytes": item.size,
        "in_mtime_ns": item.mtime_ns,
    }


def _crash(crash: Crashed) -> Done:
    return Done(
        key=crash.task.key,
        status="failed",
        reason=f"expected to be read, but {crash.reason}; it was tried {crash.times} times, "
        "at last alone",
        hint="the file crashes a decoder or needs more memory than there is: convert it to FLAC, "
        "or remove it",
    )
