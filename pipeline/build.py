"""``jatsr build``: scan, plan, run the graph, assemble, publish; resumable at every point."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jatsr_model.codecs import CodecSpec, resolve
from pipeline.assemble import AssembledShard, AssembleSession
from pipeline.captioning import Captioning
from pipeline.captions import parse_chain
from pipeline.config import BuildConfig
from pipeline.engines.base import Crashed, Engine, Progress
from pipeline.engines.inline import InlineEngine
from pipeline.engines.local import LocalEngine
from pipeline.fingerprint import byte_config, expect_same, fingerprint
from pipeline.graph import GraphConfig, TrackSession
from pipeline.parts import PartStore
from pipeline.plan import Plan, ledger_row, make_plan
from pipeline.publish import Existing, load_existing, publish
from pipeline.records import TrackResult
from pipeline.scan import find_files, scan
from pipeline.tally import Breaker, Tally
from pipeline.ui import Ui
from shards.errors import ConfigError, EnvironmentFailure
from shards.layout import MANIFEST, STAGING
from shards.manifest import Manifest, read_manifest
from shards.storage import folder_lock, machine_errors, pretty_json, write_atomically
from shards.tables import LEDGER_SCHEMA

_SHARDS_INLINE = 4  # starting processes takes longer than assembling so few


@dataclass(frozen=True)
class Outcome:
    """What a build did."""

    manifest: Manifest
    plan: Plan
    tally: Tally
    changed: bool  # False where there was nothing to do


@dataclass(frozen=True)
class _Place:
    """Where a build works."""

    dest: Path
    staging: Path  # of this configuration

    @property
    def parts(self) -> Path:
        return self.staging / "parts"

    @property
    def scratch(self) -> Path:
        return self.staging / "scratch"


class Build:
    """One run of ``jatsr build``.

    Args:
        sources: files and folders.
        dest: the dataset's folder.
        config: options.
        ui: progress and messages.
        rebuild: replace a dataset or an unfinished build with other options.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        dest: Path,
        config: BuildConfig,
        ui: Ui,
        *,
        rebuild: bool = False,
    ) -> None:
        self._sources = [path.expanduser() for path in sources]
        self._dest = Path(os.path.abspath(dest.expanduser()))
        self._config = config
        self._ui = ui
        self._rebuild = rebuild
        self._codec: CodecSpec = resolve(config.codec_config)
        self._captioning = Captioning(parse_chain(config.captions), config.device)
        self._bytes = byte_config(config, self._codec, self._captioning.identity)
        self._fingerprint = fingerprint(self._bytes)
        self._workers = (os.cpu_count() or 1) if config.workers is None else config.workers

    @property
    def config(self) -> BuildConfig:
        """The options."""
        return self._config

    @property
    def codec(self) -> CodecSpec:
        """The codec that was resolved."""
        return self._codec

    def plan(self) -> Plan:
        """Scan and plan without writing anything."""
        existing = self._existing()
        return self._plan(existing)[0]

    def run(self) -> Outcome:
        """Build and publish.

        Raises:
            ConfigError: options or folders that cannot work.
            EnvironmentFailure: the machine failed; run again to continue.
            TooManyFailed: nothing was published; run again to continue.
        """
        self._refuse_foreign_folder()
        with machine_errors(f"writing to {self._dest}"), folder_lock(self._dest / STAGING):
            place = self._open_staging()
            existing = self._existing()
            plan, files = self._plan(existing)
            outcome = self._build(place, existing, plan, files)
            shutil.rmtree(self._dest / STAGING)
        return outcome

    def _refuse_foreign_folder(self) -> None:
        dest = self._dest
        if dest.exists() and not dest.is_dir():
            raise ConfigError(f"DEST {dest}: expected a folder, found a file")
        if not dest.exists() or (dest / MANIFEST).exists() or (dest / STAGING).exists():
            return
        if any(dest.iterdir()):
            raise ConfigError(
                f"DEST {dest}: expected a new or empty folder or a dataset, found other files",
                hint="choose another DEST; jatsr build SOURCE... DEST takes the destination last",
            )

    def _existing(self) -> Existing:
        if self._rebuild or not (self._dest / MANIFEST).exists():
            return Existing()
        manifest = read_manifest(self._dest)
        expect_same(manifest.config, self._bytes, self._dest)
        return load_existing(self._dest, manifest)

    def _open_staging(self) -> _Place:
        """The staging folder of this configuration; others are refused or, if asked, removed."""
        root = self._dest / STAGING
        place = _Place(self._dest, root / self._fingerprint[:16])
        for other in sorted(root.iterdir()):
            if not other.is_dir() or other == place.staging:
                continue
            if not self._rebuild:
                expect_same(_staged_config(other), self._bytes, self._dest)
            shutil.rmtree(other)
        for folder in (place.parts, place.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(place.staging / "config.json", pretty_json(self._bytes))
        return place

    def _plan(self, existing: Existing) -> tuple[Plan, int]:
        files = find_files(self._sources, self._dest)
        self._ui.start("scan", len(files), "files")
        known = {
            (row["source"], row["bytes"], row["mtime_ns"]): row["track"]
            for row in existing.ledger
            if row["track"]
        }
        scanned = scan(files, known, self._ui.advance, self._workers)
        keep = {"ok", "skipped"} if self._config.retry_failed else {"ok", "skipped", "failed"}
        done = {
            row["track"]: row
            for row in existing.ledger
            if row["track"] and row["status"] in keep and _is_result(row)
        }
        hours = self._config.resolved_shard_hours(self._codec)
        plan = make_plan(scanned, self._config, hours, done, existing.next_shard)
        return plan, len(files)

    def _build(self, place: _Place, existing: Existing, plan: Plan, files: int) -> Outcome:
        tally = Tally()
        results = self._run_tracks(place, plan, tally)
        ledger = [*plan.ledger, *_ledger_of(plan, results)]
        tally.count(ledger)
        tally.expect_balance(files)
        ledger = [_complete(row) for row in (*ledger, *_rows_no_longer_found(existing, ledger))]
        ledger.sort(key=lambda row: str(row["source"]))
        if existing.manifest is not None and ledger == list(existing.ledger):
            return Outcome(existing.manifest, plan, tally, changed=False)
        tally.expect_few_failed(self._config.max_failed, self._config.strict)
        if not any(row["status"] == "ok" for row in ledger):
            raise ConfigError(
                f"expected audio in {', '.join(map(str, self._sources))}, "
                f"found {files} files and none that could be used:\n{_reasons(tally)}",
                hint="see the reasons above; jatsr doctor tells which formats can be read here",
            )
        assembled = self._assemble(place, plan)
        self._ui.start("publish", 1, "dataset")
        manifest = publish(
            place.dest,
            place.staging,
            existing,
            assembled,
            ledger,
            Manifest(self._fingerprint, self._bytes, {}, {}),
            self._codec,
        )
        self._ui.advance(1)
        return Outcome(manifest, plan, tally, changed=True)

    def _run_tracks(self, place: _Place, plan: Plan, tally: Tally) -> dict[str, TrackResult]:
        store = PartStore(place.parts)
        results: dict[str, TrackResult] = {}
        for task in plan.tasks:
            part = store.load(task.track)
            if part is not None:
                results[task.track] = part.result
        tally.resumed = len(results)
        todo = [task for task in plan.tasks if task.track not in results]
        if not todo:
            return results
        if results:
            self._ui.note(
                f"continuing: {len(results)} of {len(plan.tasks)} tracks are done already"
            )
        captions = self._captioning.run([plan.sources[task.track] for task in todo], self._ui)
        session = TrackSession(self._graph_config(place, captions))
        self._ui.start("build", sum(task.seconds for task in todo), "audio seconds")
        breaker, began = Breaker(), time.monotonic()
        for event in self._engine(len(todo)).run(session, todo):
            if isinstance(event, Progress):
                tally.seconds += event.audio_seconds
                tally.add_stages(event.stage_seconds)
                self._ui.advance(event.audio_seconds)
                continue
            result = _crash_result(event) if isinstance(event, Crashed) else event
            results[result.track] = result
            breaker.see(result)
        tally.wall = time.monotonic() - began
        return results

    def _graph_config(self, place: _Place, captions: Mapping[str, str]) -> GraphConfig:
        config = self._config
        return GraphConfig(
            codec=self._codec,
            channels=config.channels,
            low_res=config.low_res,
            gain=config.gain_policy,
            captions=parse_chain(config.captions),
            model_captions=captions,
            excerpt_frames=config.excerpt_frames(self._codec),
            parts=place.parts,
            scratch=place.scratch,
        )

    def _assemble(self, place: _Place, plan: Plan) -> list[AssembledShard]:
        session = AssembleSession(
            self._codec, len(self._config.low_res), place.parts, place.staging
        )
        self._ui.start("assemble", len(plan.shards), "shards")
        done: dict[str, AssembledShard] = {}
        few = len(plan.shards) <= _SHARDS_INLINE
        engine = InlineEngine() if few else self._engine(len(plan.shards))
        for event in engine.run(session, plan.shards):
            if isinstance(event, Progress):
                continue
            if isinstance(event, Crashed):
                raise EnvironmentFailure(
                    f"assembling {event.task.name} failed: {event.reason}",
                    hint="run the same command again: it continues",
                )
            done[event.key] = event
            self._ui.advance(1)
        return [done[shard.key] for shard in plan.shards]

    def _engine(self, tasks: int) -> Engine:
        return LocalEngine(min(self._workers, tasks)) if self._workers else InlineEngine()


def _is_result(row: Mapping[str, Any]) -> bool:
    """Rows that say how a track's content ended, not where a copy of it was found."""
    reason = row["reason"] or ""
    return not reason.startswith(("duplicate of ", "not audio", "beyond --limit"))


def _ledger_of(plan: Plan, results: Mapping[str, TrackResult]) -> list[dict[str, object]]:
    rows = []
    for task in plan.tasks:
        values = results[task.track].ledger_values()
        split = plan.splits[task.track] if values["status"] == "ok" else None
        rows.append({**ledger_row(plan.sources[task.track], "", split=split), **values})
    return rows


def _complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with all columns of the ledger, comparable with one that was read from it."""
    return {name: row.get(name) for name in LEDGER_SCHEMA.names}


def _rows_no_longer_found(
    existing: Existing, ledger: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Tracks of the dataset whose files are gone stay in it, and so in the ledger."""
    present = {row["track"] for row in ledger if row["status"] == "ok"}
    return [
        dict(row)
        for row in existing.ledger
        if row["status"] == "ok" and row["track"] not in present
    ]


def _crash_result(crash: Crashed) -> TrackResult:
    return TrackResult(
        crash.task.track,
        "failed",
        stage="worker",
        reason=f"expected to be read, but {crash.reason}, twice",
        hint="the file makes a decoder crash: convert it to FLAC or remove it",
    )


def _staged_config(staging: Path) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = json.loads((staging / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config


def _reasons(tally: Tally) -> str:
    lines = [
        f"  {count} x {status}: {reason}"
        for status in ("failed", "skipped")
        for reason, count in tally.reasons[status].most_common(5)
    ]
    return "\n".join(lines) or "  the folders are empty"
