"""Runs of upsampling without a command line, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from around import deadly

from jatsr_model.upsampling.output_format import output_format
from jatsr_model.upsampling.settings import Settings
from pipeline.engines.base import Engine, Progress, Run
from pipeline.engines.inline import InlineEngine
from pipeline.upsample.batch import Batch, Outcome
from pipeline.upsample.folder import Folder
from pipeline.upsample.ledger import LEDGER, Ledger
from pipeline.upsample.names import Planned, name_outputs
from pipeline.upsample.plan import Work
from pipeline.upsample.session import Done, UpsampleSession
from pipeline.upsample.sources import find_files
from pipeline.upsample.upsampler import Upsampler
from shards.storage import StoreLike, open_store

QUICK = Settings(steps=1)


class Watching:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.total = self.done = 0.0

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, seconds: float) -> None:
        self.total = seconds

    def advance(self, seconds: float) -> None:
        self.done += seconds


class NotNeeded:
    """An engine for runs that have nothing to do."""

    def run(self, session: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        raise AssertionError("there is nothing to do")


class Around:
    """An engine that changes the session, and tells of the number of results so far."""

    def __init__(
        self,
        engine: Engine,
        change: Callable[[Any], Any] = lambda session: session,
        after: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._engine, self._change, self._after = engine, change, after

    def run(self, session: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        count = 0
        for event in self._engine.run(self._change(session), tasks):
            if isinstance(event, Done):
                count += 1
                self._after(count)
            yield event


def plan_files(inputs: Sequence[StoreLike], out: StoreLike, ending: str = ".wav") -> list[Planned]:
    """Inputs with the names of their outputs, as the ledger has them if there is one."""
    store = open_store(out)
    ledger = Ledger(store)
    found = find_files([str(text) for text in inputs], store, ledger.has_done)
    return name_outputs(found, store, ending, ledger)


def run(
    inputs: Sequence[StoreLike],
    out: StoreLike,
    model: Path | None = None,
    *,
    settings: str = "s",
    overwrite: bool = False,
    ui: Watching | None = None,
    engine: Engine | None = None,
    limit: int = 20,
) -> Outcome:
    """A run into a folder of WAV files."""
    folder, ui = Folder(open_store(out)), ui or Watching()
    session = UpsampleSession(
        upsampler=Upsampler(model=model, settings=QUICK, form=output_format(Path("x.wav"))),
        staged=folder.staged,
        ending=".wav",
    )

    def hear(progress: Progress) -> None:
        ui.advance(progress.audio_seconds)

    with folder.locked():
        files, ledger = plan_files(inputs, out), Ledger(folder.store)
        folder.recover(ledger, files)
        work = Work(files, folder, ledger, settings, overwrite=overwrite)
        with folder.staging():
            return Batch(work, engine or InlineEngine(hear), session, ui).run(work.plan(), limit)


def ledger(out: StoreLike) -> dict[str, dict[str, Any]]:
    """Rows by name; each name once."""
    rows = [json.loads(line) for line in open_store(out).read(LEDGER).splitlines()]
    found = {row["name"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def outputs(out: StoreLike) -> dict[str, bytes]:
    """Every file but the ledger."""
    store = open_store(out)
    return {name: store.read(name) for name in store.files() if name != LEDGER}


@dataclass(frozen=True, kw_only=True)
class Poisoned(UpsampleSession):
    """A worker dies of every file with such a name."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        run = super().open(report)
        return lambda tasks: run(deadly(tasks, lambda task: task.source))


def poisoned(session: UpsampleSession) -> Poisoned:
    """The same session, hostile to some files."""
    return Poisoned(**{field.name: getattr(session, field.name) for field in fields(session)})
