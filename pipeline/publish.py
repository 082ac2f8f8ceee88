"""Make a dataset exist: shards, tables and statistics first, ``dataset.json`` last."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jatsr_model.codecs import CodecSpec, load
from pipeline.assemble import AssembledShard
from shards.errors import FormatError
from shards.layout import LEDGER, MANIFEST, SAMPLES, SPLITS, STATISTICS, stream_names
from shards.manifest import Manifest, ShardEntry
from shards.statistics import Moments, read_shard_statistics, shard_moments, write_statistics
from shards.storage import fsync_folder, fsync_tree, sha256_file, sha256_tree
from shards.tables import (
    LEDGER_SCHEMA,
    SAMPLES_SCHEMA,
    arrow_table,
    read_arrow,
    read_table,
    write_table,
)

_LIBRARIES = ("jatsr", "numpy", "scipy", "soxr", "soundfile", "webdataset", "pyarrow", "zarr")
_NETWORK_LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True)
class Target:
    """What is published where."""

    dest: Path
    staging: Path  # holds the new shards under their final relative names
    fingerprint: str
    config: Mapping[str, Any]
    codec: CodecSpec


@dataclass(frozen=True)
class Existing:
    """What is published already; empty for a new dataset."""

    manifest: Manifest | None = None
    samples: pa.Table | None = None
    ledger: Sequence[Mapping[str, Any]] = ()

    @property
    def next_shard(self) -> dict[str, int]:
        """Per split, the number of the next new shard."""
        if self.manifest is None:
            return {}
        return {
            split: 1 + max((_number(entry.name) for entry in entries), default=-1)
            for split, entries in self.manifest.splits.items()
        }

    @cached_property
    def splits(self) -> dict[str, str]:
        """Source path -> split of the tracks in the dataset."""
        return {row["source"]: row["split"] for row in self.ledger if row["status"] == "ok"}

    def is_whole(self, dest: Path) -> bool:
        """Whether the tables are those of the manifest and nothing else lies about.

        False after an interrupted update, which publishing again mends.
        """
        assert self.manifest is not None
        listed = {entry.name for entry in self.manifest.shards}
        return _hashes(dest) == dict(self.manifest.files) and _tars(dest) == listed


def load_existing(dest: Path, manifest: Manifest) -> Existing:
    """Read the tables of a published dataset, less what an interrupted update left in them.

    Raises:
        FormatError: a table or a shard is missing or damaged.
    """
    for entry in manifest.shards:
        path = dest / entry.name
        found = path.stat().st_size if path.exists() else None
        if found != entry.bytes:
            raise FormatError(
                f"{path}: expected a shard of {entry.bytes} bytes, found "
                + ("none" if found is None else f"{found}"),
                hint="restore it from a copy, or build the dataset anew with --rebuild",
            )
    table = read_arrow(dest / SAMPLES, SAMPLES_SCHEMA)
    shards = pa.array([entry.name for entry in manifest.shards], pa.string())
    samples = table.filter(pc.is_in(table["shard"], value_set=shards))
    tracks = set(samples["track"].to_pylist())
    ledger = [
        row
        for row in read_table(dest / LEDGER, LEDGER_SCHEMA)
        if row["status"] != "ok" or row["track"] in tracks
    ]
    return Existing(manifest, samples, ledger)


def publish(
    target: Target,
    existing: Existing,
    new: Sequence[AssembledShard],
    ledger: Sequence[Mapping[str, Any]],
) -> Manifest:
    """Publish new shards beside those that exist, which are not touched.

    Args:
        target: what and where.
        existing: what stays.
        new: shards in the staging folder.
        ledger: all rows.

    Returns:
        the manifest that was written.
    """
    dest = target.dest
    _expect_all_samples(existing, new, ledger)
    if existing.manifest is None:
        _clear(dest)
    for shard in new:
        path = dest / shard.entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(target.staging / shard.entry.name, path)
        fsync_folder(path.parent)
    splits = {split: _entries(split, existing, new) for split in SPLITS}
    write_table(dest / SAMPLES, _samples(existing, new, ledger))
    _write_statistics(target, existing, new)
    write_table(dest / LEDGER, arrow_table(ledger, LEDGER_SCHEMA))
    network = target.codec.name != "mdct"
    manifest = Manifest(target.fingerprint, target.config, splits, _hashes(dest), versions(network))
    manifest.write(dest)
    for orphan in _tars(dest) - {entry.name for entry in manifest.shards}:
        (dest / orphan).unlink()  # of an update that was interrupted and then withdrawn
    return manifest


def _hashes(dest: Path) -> dict[str, str]:
    """Hashes of the tables and statistics that are there."""
    found = {name: sha256_file(dest / name) for name in (SAMPLES, LEDGER) if (dest / name).exists()}
    if (dest / STATISTICS).is_dir():
        found[STATISTICS] = sha256_tree(dest / STATISTICS)
    return found


def _tars(dest: Path) -> set[str]:
    return {f"{split}/{path.name}" for split in SPLITS for path in (dest / split).glob("*.tar")}


def _expect_all_samples(
    existing: Existing, new: Sequence[AssembledShard], ledger: Sequence[Mapping[str, Any]]
) -> None:
    """The last balance before anything is published: ledger and samples hold the same tracks."""
    counts = Counter(row["track"] for shard in new for row in shard.rows)
    if existing.samples is not None:
        counts += Counter(existing.samples["track"].to_pylist())
    claimed = {row["track"]: row["excerpts"] for row in ledger if row["status"] == "ok"}
    if claimed != counts:
        differing = sorted(t for t in {*claimed, *counts} if claimed.get(t) != counts.get(t))
        raise AssertionError(f"ledger and samples do not balance: tracks {differing[:5]}")


def versions(network: bool) -> dict[str, str]:
    """Versions of the libraries that made a dataset, for people."""
    names = _LIBRARIES + (_NETWORK_LIBRARIES if network else ())
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _number(name: str) -> int:
    return int(Path(name).stem)


def _clear(dest: Path) -> None:
    """Remove an older dataset that is being replaced, its manifest first."""
    (dest / MANIFEST).unlink(missing_ok=True)
    for split in SPLITS:
        shutil.rmtree(dest / split, ignore_errors=True)


def _entries(
    split: str, existing: Existing, new: Sequence[AssembledShard]
) -> tuple[ShardEntry, ...]:
    old = existing.manifest.splits.get(split, ()) if existing.manifest else ()
    added = tuple(shard.entry for shard in new if shard.split == split)
    return tuple(sorted((*old, *added), key=lambda entry: _number(entry.name)))


def _samples(
    existing: Existing, new: Sequence[AssembledShard], ledger: Sequence[Mapping[str, Any]]
) -> pa.Table:
    sources = {row["track"]: row["source"] for row in ledger if row["status"] == "ok"}
    rows = [{**row, "source": sources[row["track"]]} for shard in new for row in shard.rows]
    fresh = arrow_table(rows, SAMPLES_SCHEMA)
    return fresh if existing.samples is None else pa.concat_tables([existing.samples, fresh])


def _write_statistics(target: Target, existing: Existing, new: Sequence[AssembledShard]) -> None:
    table: dict[str, dict[str, Mapping[str, Moments]]] = {}
    if existing.manifest is not None:
        old = _existing_statistics(target.dest, existing.manifest, target.codec)
        table = {split: dict(shards) for split, shards in old.items()}
    for shard in new:
        table.setdefault(shard.split, {})[shard.entry.name] = shard.moments
    fresh, final = target.staging / STATISTICS, target.dest / STATISTICS
    attributes = {"codec": dict(target.codec.identity), "fingerprint": target.fingerprint}
    write_statistics(fresh, table, attributes)
    fsync_tree(fresh)
    replaced = target.staging / f"{STATISTICS}.old"
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        os.replace(final, replaced)
    os.replace(fresh, final)
    shutil.rmtree(replaced, ignore_errors=True)


def _existing_statistics(
    dest: Path, manifest: Manifest, codec: CodecSpec
) -> dict[str, dict[str, dict[str, Moments]]]:
    """From the file where it is the one that was published, else from the shards."""
    path = dest / STATISTICS
    if path.exists() and sha256_tree(path) == manifest.files.get(STATISTICS):
        with contextlib.suppress(FormatError):  # derived again below
            return read_shard_statistics(path)
    latents = load(codec).latents_array
    streams = stream_names(manifest.variants)
    return {
        split: {entry.name: shard_moments(dest / entry.name, streams, latents) for entry in entries}
        for split, entries in manifest.splits.items()
        if entries
    }
