"""``jatsr build``: scan, plan, run the graph, assemble, publish; resumable at every point."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

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
from pipeline.ledger import complete, finished, ledger_row
from pipeline.parts import Part
from pipeline.plan import Plan, make_plan
from pipeline.publish import Existing, Target, load_existing, publish
from pipeline.records import TrackResult
from pipeline.scan import find_files, is_url, scan
from pipeline.staging import Staging
from pipeline.tally import BREAKER, Breaker, Tally
from pipeline.ui import Ui
from shards.errors import ConfigError, EnvironmentFailure
from shards.layout import MANIFEST
from shards.manifest import Manifest, read_manifest
from shards.storage import folder_lock, machine_errors, printable

_SHARDS_INLINE = 4  # starting processes takes longer than assembling so few


@dataclass(frozen=True)
class Outcome:
    """What a build did."""

    manifest: Manifest
    plan: Plan
    tally: Tally
    changed: bool  # False where there was nothing to do


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
        if is_url(dest):
            raise ConfigError(f"DEST {dest}: expected a local path, found a URL")
        self._sources = [path.expanduser() for path in sources]
        self._dest = Path(os.path.abspath(dest.expanduser()))
        self._config = config
        self._ui = ui
        self._rebuild = rebuild
        self._codec: CodecSpec = resolve(config.codec_config)
        self._captioning = Captioning(parse_chain(config.captions), config.device)
        self._bytes = byte_config(config, self._codec, self._captioning.identity)
        self._fingerprint = fingerprint(self._bytes)
        self._staging = Staging(self._dest, self._fingerprint, self._bytes)
        wanted = config.workers
        self._workers = default_workers(self._codec.device) if wanted is None else wanted

    @property
    def config(self) -> BuildConfig:
        """The options."""
        return self._config

    @property
    def codec(self) -> CodecSpec:
        """The codec that was resolved."""
        return self._codec

    def plan(self) -> Plan:
        """Scan and plan without writing anything; tracks that are staged count as done.

        Raises:
            ConfigError: what ``run`` would refuse.
        """
        self._staging.check(rebuild=self._rebuild)
        plan, _ = self._plan(self._existing())
        store = self._staging.store
        left = tuple(task for task in plan.tasks if store.load(task.track) is None)
        return replace(plan, tasks=left)

    def run(self) -> Outcome:
        """Build and publish.

        Raises:
            ConfigError: options or folders that cannot work.
            EnvironmentFailure: the machine failed; run again to continue.
            TooManyFailed: nothing was published; run again to continue.
        """
        self._staging.check(rebuild=self._rebuild)
        with machine_errors(f"writing to {self._dest}"), folder_lock(self._staging.root):
            existing = self._existing()
            self._staging.open()
            plan, files = self._plan(existing)
            outcome = self._build(existing, plan, files)
            self._staging.close()
        return outcome

    def _existing(self) -> Existing:
        if self._rebuild or not (self._dest / MANIFEST).exists():
            return Existing()
        manifest = read_manifest(self._dest)
        expect_same(manifest.config, self._bytes, self._dest)
        return load_existing(self._dest, manifest)

    def _plan(self, existing: Existing) -> tuple[Plan, int]:
        files = find_files(self._sources, self._dest)
        if not files:
            sources = ", ".join(map(str, self._sources))
            raise ConfigError(f"SOURCE {sources}: expected files, found none")
        self._ui.start("scan", len(files), "files")
        published = {
            (row["source"], row["bytes"], row["mtime_ns"]): row["track"]
            for row in existing.ledger
            if row["track"]
        }
        known = {**published, **self._staging.known_files()}
        scanned = scan(files, known, self._ui.advance, self._workers)
        if self._staging.path.exists():
            self._staging.remember_files(scanned)
        plan = make_plan(
            scanned,
            self._config,
            self._config.resolved_shard_hours(self._codec),
            finished(existing.ledger, retry_failed=self._config.retry_failed),
            existing.next_shard,
            existing.splits,
        )
        return plan, len(files)

    def _build(self, existing: Existing, plan: Plan, files: int) -> Outcome:
        tally = Tally()
        known_failed = {row["track"] for row in existing.ledger if row["status"] == "failed"}
        results = self._run_tracks(plan, tally, known_failed)
        rows = [*plan.ledger, *_rows_of(plan, results)]
        tally.count(rows)
        tally.expect_balance(files)
        tally.expect_few_failed(self._config.max_failed, self._config.strict)
        ledger = complete(rows, existing.ledger)
        if existing.manifest and ledger == existing.ledger and existing.is_whole(self._dest):
            return Outcome(existing.manifest, plan, tally, changed=False)
        if not any(row["status"] == "ok" for row in ledger):
            raise ConfigError(
                f"expected audio in {', '.join(map(str, self._sources))}, "
                f"found {files} files and none that could be used:\n{_reasons(tally)}",
                hint="see the reasons above; jatsr doctor tells which formats can be read here",
            )
        self._note_changed_files(existing, plan)
        assembled = self._assemble(plan, results)
        damaged = {track for shard in assembled for track in shard.damaged}
        if damaged:
            self._ui.note(f"{len(damaged)} staged tracks are damaged (a power cut?): built again")
            results = self._run_tracks(plan, tally, known_failed)
            assembled = self._assemble(plan, results)
        self._ui.start("publish", 1, "dataset")
        manifest = publish(
            Target(self._dest, self._staging.path, self._fingerprint, self._bytes, self._codec),
            existing,
            assembled,
            ledger,
        )
        self._ui.advance(1)
        return Outcome(manifest, plan, tally, changed=True)

    def _run_tracks(
        self, plan: Plan, tally: Tally, known_failed: Set[str]
    ) -> dict[str, TrackResult]:
        """Results of all planned tracks: of an earlier run where they are staged, else built."""
        store = self._staging.store
        staged = [part for task in plan.tasks if (part := store.load(task.track))]
        results = {p.result.track: p.result for p in staged if p.result.status != "failed"}
        # Failures are tried again, since the cause may be gone, but not counted again.
        known = known_failed | {p.result.track for p in staged if p.result.status == "failed"}
        tally.resumed = len(results)
        todo = [task for task in plan.tasks if task.track not in results]
        if not todo:
            return results
        if results:
            count = f"{len(results)} of {len(plan.tasks)}"
            self._ui.note(f"continuing: {count} tracks are done already")
        captions = self._captioning.run([plan.sources[task.track] for task in todo], self._ui)
        session = TrackSession(self._graph_config(captions))
        self._ui.start("build", sum(task.seconds for task in todo), "audio seconds")
        limit = BREAKER if self._config.max_failed < 1 else len(todo) + 1
        breaker, began = Breaker(limit, known), time.monotonic()
        for event in self._engine(len(todo)).run(session, todo):
            if isinstance(event, Progress):
                tally.seconds += event.audio_seconds
                tally.add_stages(event.stage_seconds)
                self._ui.advance(event.audio_seconds)
                continue
            result = _crash_result(event) if isinstance(event, Crashed) else event
            results[result.track] = result
            if result.status == "failed":
                store.save(Part(result))
            breaker.see(result)
        tally.wall += time.monotonic() - began
        return results

    def _graph_config(self, captions: Mapping[str, str]) -> GraphConfig:
        config = self._config
        return GraphConfig(
            codec=self._codec,
            channels=config.channels,
            low_res=config.low_res,
            gain=config.gain_policy,
            captions=parse_chain(config.captions),
            model_captions=captions,
            excerpt_frames=config.excerpt_frames(self._codec),
            parts=self._staging.parts,
            scratch=self._staging.scratch,
        )

    def _assemble(self, plan: Plan, results: Mapping[str, TrackResult]) -> list[AssembledShard]:
        """Shards of the tracks that are ok; one without any is not written."""
        whole = [
            replace(shard, tracks=tuple(t for t in shard.tracks if results[t].status == "ok"))
            for shard in plan.shards
        ]
        shards = [shard for shard in whole if shard.tracks]
        variants = len(self._config.low_res)
        session = AssembleSession(self._codec, variants, self._staging.parts, self._staging.path)
        self._ui.start("assemble", len(shards), "shards")
        done: dict[str, AssembledShard] = {}
        few = len(shards) <= _SHARDS_INLINE
        engine = InlineEngine() if few else self._engine(len(shards))
        for event in engine.run(session, shards):
            if isinstance(event, Crashed):
                raise EnvironmentFailure(
                    f"assembling {event.task.name} failed: {event.reason}",
                    hint="run the same command again: it continues",
                )
            if isinstance(event, AssembledShard):
                done[event.key] = event
                self._ui.advance(1)
        return [done[shard.key] for shard in shards]

    def _note_changed_files(self, existing: Existing, plan: Plan) -> None:
        changed = sum(
            printable(item.found.path) in existing.splits
            for track, item in plan.sources.items()
            if track in plan.splits
        )
        if changed:
            self._ui.note(
                f"{changed} files have changed since they were built: the dataset keeps both "
                "versions, in one split; --rebuild drops the old ones"
            )

    def _engine(self, tasks: int) -> Engine:
        return LocalEngine(min(self._workers, tasks)) if self._workers else InlineEngine()


def default_workers(device: str) -> int:
    """One process per core that this process may use; few where they share a GPU."""
    cores = len(os.sched_getaffinity(0))
    return min(2, cores) if device == "cuda" else cores


def _rows_of(plan: Plan, results: Mapping[str, TrackResult]) -> list[dict[str, object]]:
    rows = []
    for task in plan.tasks:
        values = results[task.track].ledger_values()
        split = plan.splits[task.track] if values["status"] == "ok" else None
        rows.append({**ledger_row(plan.sources[task.track], "", split=split), **values})
    return rows


def _crash_result(crash: Crashed) -> TrackResult:
    return TrackResult(
        crash.task.track,
        "failed",
        stage="worker",
        reason=f"expected to be read, but {crash.reason}, twice, the second time alone",
        hint="the file crashes a decoder or needs more memory than there is: convert it to FLAC, "
        "or remove it",
    )


def _reasons(tally: Tally) -> str:
    lines = [
        f"  {count} x {status}: {reason}"
        for status in ("failed", "skipped")
        for reason, count in tally.reasons[status].most_common(5)
    ]
    return "\n".join(lines) or "  the folders are empty"
