"""Many files: what is to be done, what is done already, and a row for each in the ledger."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jatsr_model.audio.decode import open_audio
from jatsr_model.upsampling.folder import sweep
from jatsr_model.upsampling.ledger import BEGUN, Ledger
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.rendering import Job, Result
from jatsr_model.upsampling.sources import Planned
from shards.errors import TrackError
from shards.files import printable, sha256_file


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


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        todo: files to be upsampled.
        done: files that an earlier run has done.
        other: files that are no audio or cannot be read.
        seconds: of audio in ``todo``, as far as headers tell.
    """

    todo: tuple[Planned, ...]
    done: tuple[Planned, ...]
    other: tuple[Planned, ...]
    seconds: float


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


class Batch:
    """Upsamples the files of a folder.

    Args:
        files: what and where to.
        ledger: of the folder; None where a single output was named, which leaves no trace.
        settings: a hash of all that decides what comes out.
        overwrite: do everything, also what is done and what is there and not in the ledger.
    """

    def __init__(
        self, files: Sequence[Planned], ledger: Ledger | None, settings: str, *, overwrite: bool
    ) -> None:
        self._files, self._ledger, self._settings = files, ledger, settings
        self._overwrite = overwrite

    def plan(self) -> Plan:
        """Look at every file, without reading it."""
        other = [item for item in self._files if item.skipped or item.problem]
        audio = [item for item in self._files if not item.skipped and not item.problem]
        done = [item for item in audio if self._is_done(item)]
        kept = {item.name for item in done}
        todo = [item for item in audio if item.name not in kept]
        seconds = sum(_header_seconds(item.source) for item in todo)
        return Plan(tuple(todo), tuple(done), tuple(other), seconds)

    def run(self, plan: Plan, renderer: Callable[[], Renderer], ui: Ui) -> Outcome:
        """Do it.

        Args:
            plan: from ``plan``.
            renderer: loads the model; called only if there is something to do.
            ui: told of progress and of every failure.

        Raises:
            EnvironmentFailure: the machine is at fault; what is done is in the ledger.
        """
        outcome = Outcome(kept=len(plan.done))
        if self._ledger is not None:
            outcome.rows += [dict(self._ledger.row(item.name)) for item in plan.done]
        outputs = {item.name for item in self._files if not item.skipped}
        for item in plan.other:
            status, reason = ("skipped", item.skipped) if item.skipped else ("failed", item.problem)
            # What is no audio may be named like an output: the ledger has the row of the output.
            keep = not (item.skipped and item.name in outputs)
            self._record(outcome, item, {"status": status, "reason": reason}, ui, keep=keep)
        if plan.todo:
            ui.start(plan.seconds)
            sweep(plan.todo)
            planned = {item.source: item for item in plan.todo}
            jobs = self._jobs(plan.todo, outcome, ui)
            with closing(renderer().run(jobs, ui.advance)) as results:
                for job, result in results:
                    outcome.seconds += result.facts.get("seconds", 0.0)
                    self._record(outcome, planned[job.source], _facts(result, job), ui)
        if self._ledger is not None:
            self._ledger.close()
        return outcome

    def _jobs(self, todo: Sequence[Planned], outcome: Outcome, ui: Ui) -> Iterator[Job]:
        """What has to be rendered, looked at one file after the other."""
        for item in todo:
            try:
                digest = sha256_file(item.source)
            except OSError as error:
                reason = f"cannot be read: {error.strerror or error}"
                self._record(outcome, item, {"status": "failed", "reason": reason}, ui)
                continue
            known = None if self._overwrite else self._ledger
            if known is not None and known.is_same(item, digest, self._settings):
                outcome.kept += 1
                row = {**known.row(item.name), "in_mtime_ns": item.mtime_ns}
                known.add(row)
                outcome.rows.append(row)
            elif reason := self._in_the_way(item):
                hint = "remove it, choose another OUT, or use --overwrite"
                facts = {"status": "failed", "reason": reason, "hint": hint}
                self._record(outcome, item, facts, ui)
            else:
                if self._ledger is not None:
                    self._ledger.add({"name": item.name, "status": BEGUN})
                yield Job(source=item.source, target=item.target, digest=digest)

    def _is_done(self, item: Planned) -> bool:
        if self._ledger is None or self._overwrite:
            return False
        return self._ledger.is_done(item, self._settings)

    def _in_the_way(self, item: Planned) -> str:
        """Why an output cannot be written: it is there and was not made by us."""
        ours = self._ledger is not None and self._ledger.owns(item.name)
        # Path.exists would raise for a name that is too long; the writer says so in words.
        if self._overwrite or ours or not os.path.exists(item.target):
            return ""
        return f"{item.target} exists already and is not in the ledger"

    def _record(
        self, outcome: Outcome, item: Planned, facts: dict[str, Any], ui: Ui, *, keep: bool = True
    ) -> None:
        row = {
            "name": item.name,
            "source": printable(str(item.source)),
            "in_bytes": item.size,
            "in_mtime_ns": item.mtime_ns,
            "settings": self._settings,
            **facts,
        }
        outcome.rows.append(row)
        if self._ledger is not None and keep:
            self._ledger.add(row)
        if row["status"] == "failed":
            ui.note(f"failed: {row['source']}: {row['reason']}")


def _facts(result: Result, job: Job) -> dict[str, Any]:
    facts = {"status": result.status, "reason": result.reason, "sha256": job.digest, **result.facts}
    return {**facts, "hint": result.hint} if result.hint else facts


def _header_seconds(path: Path) -> float:
    """What the header promises; 0 where it cannot be read, which the run will report."""
    try:
        with open_audio(path) as audio:
            return (audio.format.header_frames or 0) / audio.format.rate
    except (TrackError, OSError):
        return 0.0
