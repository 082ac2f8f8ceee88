"""``jatsr merge``: several datasets of equal fingerprint become one, without encoding anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from jatsr_model.codecs import Codec, encode_silence, load
from jatsr_model.codecs.of_dataset import codec_of
from pipeline.assemble import AssembledShard
from pipeline.existing import Existing, load_existing
from pipeline.fingerprint import expect_same
from pipeline.ledger import union
from pipeline.publish import Target, publish, shard_statistics
from pipeline.staging import Staging
from pipeline.ui import Ui
from shards.errors import ConfigError, FormatError
from shards.files import canonical_json, machine_errors, sha256_file
from shards.layout import MANIFEST, SPLITS, shard_name, stream_names
from shards.manifest import Manifest, ShardEntry, read_manifest
from shards.scratch import scratch_folder
from shards.silence import read_silence
from shards.statistics import Moments, shard_moments
from shards.storage import Store, StoreLike, open_store
from shards.tar import END_OF_ARCHIVE

_INPUTS = "inputs.json"


@dataclass(frozen=True)
class _Input:
    store: Store
    manifest: Manifest
    content: Existing
    moments: Mapping[str, Mapping[str, Mapping[str, Moments]]]

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Table rows by shard, in the order of the shard, without the source."""
        assert self.content.samples is not None
        table = self.content.samples.drop_columns(["source"])
        found: dict[str, list[dict[str, Any]]] = {}
        for row in table.to_pylist(maps_as_pydicts="strict"):
            found.setdefault(row["shard"], []).append(row)
        return {name: sorted(rows, key=lambda row: row["offset"]) for name, rows in found.items()}


@dataclass(frozen=True)
class _Copy:
    """A shard that is taken over."""

    source: _Input
    entry: ShardEntry
    split: str
    name: str  # its new one
    rows: Sequence[Mapping[str, Any]]  # that stay
    whole: bool


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    manifest: Manifest
    duplicates: int  # tracks that were in more than one dataset


class Merge:
    """One run of ``jatsr merge``.

    Args:
        sources: datasets; of a track that is in several, the first one's samples are kept.
        dest: where the new one goes.
        weights: of the codec, for statistics of shards that lose samples; None: the usual places.
        ui: progress and messages.
    """

    def __init__(
        self, sources: Sequence[StoreLike], dest: StoreLike, weights: Path | None, ui: Ui
    ) -> None:
        self._sources = [open_store(source) for source in sources]
        self._dest = open_store(dest)
        self._weights = weights
        self._ui = ui

    def run(self) -> Merged:
        """Merge; run it again to continue an interrupted one.

        Raises:
            ConfigError: datasets that were built with different options, or DEST is in use.
            FormatError: a dataset is damaged.
        """
        manifests = [read_manifest(store) for store in self._sources]
        first = manifests[0]
        for store, manifest in zip(self._sources[1:], manifests[1:], strict=True):
            expect_same(manifest.config, first.config, store.url)
            if manifest.fingerprint != first.fingerprint:
                raise FormatError(
                    f"{store.url}: expected fingerprint {first.fingerprint[:12]}, "
                    f"found {manifest.fingerprint[:12]}",
                    hint="run jatsr verify on both datasets",
                )
        staging = Staging(self._dest, first.fingerprint, first.config)
        inputs = self._inputs(manifests)
        self._expect_free(staging, inputs)
        with machine_errors(f"writing to {self._dest.url}"), staging.lock():
            self._expect_free(staging, inputs)  # somebody may have built here meanwhile
            self._open(staging, inputs)
            merged = self._merge(staging, manifests)
            staging.close()
        return merged

    def _inputs(self, manifests: Sequence[Manifest]) -> bytes:
        names = zip(self._sources, manifests, strict=True)
        return canonical_json(
            [[store.url, [entry.sha256 for entry in found.shards]] for store, found in names]
        )

    def _expect_free(self, staging: Staging, inputs: bytes) -> None:
        found = "a dataset" if MANIFEST in self._dest.entries() else ""
        if staging.staged.store.files("parts"):
            found = "an unfinished build"
        elif _inputs_of(staging) == inputs:
            return  # an interrupted merge of the same datasets, perhaps after it was published
        if found:
            raise ConfigError(
                f"-o {self._dest.url}: expected a new or empty folder, found {found}",
                hint="choose another folder; a merge does not add to a dataset",
            )
        staging.check(rebuild=False)

    def _open(self, staging: Staging, inputs: bytes) -> None:
        """Keep what an interrupted merge of the same datasets has copied, and nothing else."""
        if _inputs_of(staging) != inputs:
            staging.staged.store.remove_tree("")
        staging.open()
        staging.staged.store.write(_INPUTS, inputs)

    def _merge(self, staging: Staging, manifests: Sequence[Manifest]) -> Merged:
        inputs = [
            _Input(
                store,
                manifest,
                load_existing(store, manifest),
                shard_statistics(store, manifest, lambda: self._codec.spaces),
            )
            for store, manifest in zip(self._sources, manifests, strict=True)
        ]
        ledger = union([item.content.ledger for item in inputs])
        copies, duplicates = _plan(inputs)
        self._ui.start("merge", len(copies), "shards")
        store = staging.staged.store
        there = {name: stat.size for name, stat in store.files().items()}
        shards = []
        for copy in copies:
            shards.append(self._take(copy, store, there.get(copy.name)))
            self._ui.advance(1)
        staging.expect_ours()
        first = manifests[0]
        target = Target(
            self._dest,
            staging.name,
            first.fingerprint,
            first.config,
            lambda: self._codec.spaces,
            lambda: self._silence(inputs),
        )
        return Merged(publish(target, Existing(), shards, ledger), duplicates)

    @cached_property
    def _codec(self) -> Codec:
        return load(codec_of(read_manifest(self._sources[0]), self._weights))

    def _silence(self, inputs: Sequence[_Input]) -> NDArray[Any]:
        """The frame of the first dataset that has it whole."""
        for item in inputs:
            with contextlib.suppress(FormatError):
                return read_silence(item.store, item.manifest)
        return encode_silence(self._codec)

    def _take(self, copy: _Copy, staged: Store, there: int | None) -> AssembledShard:
        """Stage one shard: as it is, or without the samples that are dropped."""
        if copy.whole:
            if there != copy.entry.bytes:
                with _checked(copy) as path:
                    staged.put(path, copy.name)
            rows, entry = copy.rows, replace(copy.entry, name=copy.name)
            moments = copy.source.moments[copy.split][copy.entry.name]
        else:
            streams = stream_names(copy.source.manifest.variants)
            with _checked(copy) as path, scratch_folder() as folder:
                shorter = folder / "shard.tar"
                entry, rows = _without(copy, path, shorter)
                moments = shard_moments(shorter, streams, self._codec.spaces)
                staged.put(shorter, copy.name)
        placed = tuple({**row, "shard": copy.name} for row in rows)
        return AssembledShard(copy.name, copy.split, entry, moments, placed)


def _inputs_of(staging: Staging) -> bytes | None:
    """What the unfinished merge in the staging folder was of."""
    try:
        return staging.staged.store.read(_INPUTS)
    except FileNotFoundError:
        return None


def _plan(inputs: Sequence[_Input]) -> tuple[list[_Copy], int]:
    """Shards to take over, numbered anew, and how many tracks are dropped as duplicates."""
    owner: dict[str, int] = {}
    numbers = dict.fromkeys(SPLITS, 0)
    copies: list[_Copy] = []
    dropped: set[tuple[int, str]] = set()
    for index, item in enumerate(inputs):
        by_shard = item.rows()
        for split in SPLITS:
            for entry in item.manifest.splits.get(split, ()):
                rows = by_shard[entry.name]
                kept = [row for row in rows if owner.setdefault(row["track"], index) == index]
                dropped |= {(index, row["track"]) for row in rows if owner[row["track"]] != index}
                if kept:
                    name = shard_name(split, numbers[split])
                    whole = len(kept) == len(rows)
                    copies.append(_Copy(item, entry, split, name, kept, whole))
                    numbers[split] += 1
    return copies, len(dropped)


@contextlib.contextmanager
def _checked(copy: _Copy) -> Iterator[Path]:
    """A shard as a local file, which must be what its dataset says it is."""
    with copy.source.store.local(copy.entry.name) as path:
        found = sha256_file(path)
        if found != copy.entry.sha256:
            raise FormatError(
                f"{copy.source.store.join(copy.entry.name)}: expected sha256 "
                f"{copy.entry.sha256[:12]}, found {found[:12]}",
                hint="restore the shard from a copy, or leave this dataset out",
            )
        yield path


def _without(copy: _Copy, path: Path, target: Path) -> tuple[ShardEntry, list[Mapping[str, Any]]]:
    """Write a shard with the samples that stay only; the tar's members are copied as they are."""
    rows: list[Mapping[str, Any]] = []
    with path.open("rb") as source, target.open("wb") as file:
        for row in copy.rows:
            source.seek(row["offset"])
            rows.append({**row, "offset": file.tell()})
            file.write(source.read(row["bytes"]))
        file.write(END_OF_ARCHIVE)
        size = file.tell()
    frames = sum(row["frames"] for row in rows)
    return ShardEntry(copy.name, len(rows), frames, size, sha256_file(target)), rows
