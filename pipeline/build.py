"""``jatsr build``: scan, plan, run the graph, assemble, publish; resumable at every point."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from jatsr_model.codecs import Codec, encode_silence, load
from jatsr_model.codecs.of_dataset import on_cpu
from pipeline.captioning import Captioning
from pipeline.captions import parse_chain
from pipeline.config import BuildConfig
from pipeline.engine_of import Engines
from pipeline.execution import Execution
from pipeline.existing import Existing, load_existing
from pipeline.fingerprint import byte_config, fingerprint
from pipeline.identify import scan
from pipeline.ledger import complete, finished, ledger_row
from pipeline.plan import Plan, make_plan
from pipeline.publish import Target, publish
from pipeline.records import TrackResult
from pipeline.scan import Found, find_files, without_secrets
from pipeline.staging import Staging
from pipeline.tally import Tally
from pipeline.ui import Ui
from shards.addresses import is_web
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import machine_errors, printable
from shards.layout import MANIFEST
from shards.manifest import Manifest, read_manifest
from shards.storage import StoreLike, is_url, open_store


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
        sources: files and folders: paths and URLs.
        dest: the dataset's folder, a path or a URL.
        config: options.
        engines: what runs it, from ``open_engines(config)``.
        ui: progress and messages.
        rebuild: replace a dataset or an unfinished build with other options.
    """

    def __init__(
        self,
        sources: Sequence[str | os.PathLike[str]],
        dest: StoreLike,
        config: BuildConfig,
        engines: Engines,
        ui: Ui,
        *,
        rebuild: bool = False,
    ) -> None:
        # An address as the user wrote it, a path made absolute.
        places = [(os.fspath(source), open_store(source)) for source in sources]
        self._sources = [place.url if place.is_local else name for name, place in places]
        self._dest = open_store(dest)
        if is_web(self._dest.url):
            raise ConfigError(
                f"DEST {self._dest.url}: a web server cannot be written to",
                hint="choose a folder, s3:// or gs://; https:// is for SOURCE",
            )
        self._config = config
        self._engines = engines
        self._ui = ui
        self._rebuild = rebuild
        self._codec = engines.codec
        # The captioning model runs on this machine, whatever the engine.
        device = config.device if config.engine == "local" else "auto"
        captioning = Captioning(parse_chain(config.captions), device)
        self._bytes = byte_config(config, self._codec, captioning.identity)
        self._fingerprint = fingerprint(self._bytes)
        self._staging = Staging(self._dest, self._fingerprint, self._bytes)
        self._execution = Execution(config, self._staging, captioning, engines, ui)

    def plan(self) -> Plan:
        """Scan and plan without writing anything; tracks that are staged count as done.

        Raises:
            ConfigError: what ``run`` would refuse.
        """
        self._staging.check(rebuild=self._rebuild)
        plan = self._plan(find_files(self._sources, self._dest), self._existing())
        parts = self._staging.parts.find_all([task.track for task in plan.tasks])
        left = (task for task, part in zip(plan.tasks, parts, strict=True) if part is None)
        return replace(plan, tasks=tuple(left))

    def run(self) -> Outcome:
        """Build and publish.

        Raises:
            ConfigError: options or folders that cannot work.
            EnvironmentFailure: the machine failed; run again to continue.
            TooManyFailed: nothing was published; run again to continue.
        """
        self._staging.check(rebuild=self._rebuild)
        files = find_files(self._sources, self._dest)
        if self._staging.is_leased:
            self._ui.note("another process was building here: it may take a minute to see if it is")
        with machine_errors(f"writing to {self._dest.url}"), self._staging.lock():
            self._staging.check(rebuild=self._rebuild)  # somebody may have built here meanwhile
            existing = self._existing()
            self._staging.open()
            plan = self._plan(files, existing)
            outcome = self._build(existing, plan, len(files))
            self._staging.close()
        return outcome

    @property
    def _on_disk(self) -> list[str]:
        """Sources that every worker must see."""
        return [source for source in self._sources if not is_url(source)]

    def _existing(self) -> Existing:
        if self._rebuild or self._dest.stat(MANIFEST) is None:
            return Existing()
        return load_existing(self._dest, read_manifest(self._dest))

    def _plan(self, files: Sequence[Found], existing: Existing) -> Plan:
        self._ui.start("scan", len(files), "files")
        done = finished(existing.ledger, retry_failed=self._config.retry_failed)
        published = {
            (row["source"], row["bytes"], row["mtime_ns"]): row["track"]
            for row in existing.ledger
            # An object that is known is not looked into, but what is yet to be built has to be.
            if row["track"] and (row["track"] in done or not is_url(row["source"]))
        }
        known = {**published, **self._staging.known_files()}
        work, keep = self._engines.work, self._staging.remember_files
        scanned = scan(files, known, work, self._on_disk, self._ui.advance, keep)
        keep(scanned)
        return make_plan(
            scanned,
            self._config,
            self._config.resolved_shard_hours(self._codec),
            done,
            existing.next_shard,
            existing.splits,
        )

    def _build(self, existing: Existing, plan: Plan, files: int) -> Outcome:
        tally = Tally()
        known_failed = {row["track"] for row in existing.ledger if row["status"] == "failed"}
        results = self._execution.tracks(plan, self._on_disk, tally, known_failed)
        rows = [*plan.ledger, *_rows_of(plan, results)]
        tally.count(rows)
        tally.expect_balance(files)
        tally.expect_few_failed(self._config.max_failed, self._config.strict)
        ledger = complete(rows, existing.ledger)
        if existing.manifest and ledger == existing.ledger and existing.is_whole(self._dest):
            return Outcome(existing.manifest, plan, tally, changed=False)
        if not any(row["status"] == "ok" for row in ledger):
            self._staging.close()  # nothing in it is worth keeping
            raise ConfigError(
                f"expected audio in {', '.join(map(without_secrets, self._sources))}, "
                f"found {files} files and none that could be used:\n{_reasons(tally)}",
                hint="see the reasons above; jatsr doctor tells which formats can be read here",
            )
        self._note_changed_files(existing, plan)
        assembled = self._execution.assemble(plan, results)
        self._staging.expect_ours()
        damaged = {track for shard in assembled for track in shard.damaged}
        if damaged:
            self._ui.note(f"{len(damaged)} staged tracks are damaged (a power cut?): built again")
            results = self._execution.tracks(plan, self._on_disk, tally, known_failed)
            assembled = self._execution.assemble(plan, results)
            lost = {track for track in damaged if results[track].status != "ok"}
            lost |= {track for shard in assembled for track in shard.damaged}
            if lost:
                raise EnvironmentFailure(
                    f"{len(lost)} tracks were staged, are damaged now and cannot be built again",
                    hint="run the same command again: what still fails then becomes a row of the "
                    "ledger; if tracks are damaged again, check the disk that DEST is on",
                )
            self._staging.expect_ours()
        self._ui.start("publish", 1, "dataset")
        manifest = publish(
            Target(
                self._dest,
                self._staging.name,
                self._fingerprint,
                self._bytes,
                lambda: self._loaded.spaces,
                lambda: encode_silence(self._loaded),
            ),
            existing,
            assembled,
            ledger,
        )
        self._ui.advance(1)
        return Outcome(manifest, plan, tally, changed=True)

    @cached_property
    def _loaded(self) -> Codec:
        return load(on_cpu(self._codec))

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


def _rows_of(plan: Plan, results: Mapping[str, TrackResult]) -> list[dict[str, object]]:
    rows = []
    for task in plan.tasks:
        values = results[task.track].ledger_values()
        split = plan.splits[task.track] if values["status"] == "ok" else None
        rows.append({**ledger_row(plan.sources[task.track], "", split=split), **values})
    return rows


def _reasons(tally: Tally) -> str:
    lines = [
        f"  {count} x {status}: {reason}"
        for status in ("failed", "skipped")
        for reason, count in tally.reasons[status].most_common(5)
    ]
    return "\n".join(lines) or "  the folders are empty"
