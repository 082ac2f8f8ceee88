"""Make a dataset exist: shards, tables and statistics first, ``dataset.json`` last."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.assemble import AssembledShard
from shards.errors import FormatError
from shards.files import sha256_tree
from shards.layout import LEDGER, MANIFEST, SAMPLES, SPLITS, STATISTICS, stream_names
from shards.manifest import Manifest, ShardEntry
from shards.scratch import scratch_folder
from shards.statistics import (
    Latents,
    Moments,
    read_shard_statistics,
    shard_moments,
    write_statistics,
)
from shards.storage import Store
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

    dest: Store
    staging: str  # folder in it that holds the new shards under their final relative names
    fingerprint: str
    config: Mapping[str, Any]
    latents: Callable[[], Latents]  # loads the codec, where statistics must be derived again


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

    def is_whole(self, dest: Store) -> bool:
        """Whether the tables are those of the manifest and nothing else lies about.

        False after an interrupted update, which publishing again mends.
        """
        assert self.manifest is not None
        listed = {entry.name for entry in self.manifest.shards}
        return _hashes(dest) == dict(self.manifest.files) and _tars(dest) == listed


def load_existing(dest: Store, manifest: Manifest) -> Existing:
    """Read the tables of a published dataset, less what an interrupted update left in them.

    Raises:
        FormatError: a table or a shard is missing or damaged.
    """
    there = {f"{split}/{n}": s for split in SPLITS for n, s in dest.child(split).files().items()}
    for entry in manifest.shards:
        found = there.get(entry.name)
        if found is None or found.size != entry.bytes:
            raise FormatError(
                f"{dest.join(entry.name)}: expected a shard of {entry.bytes} bytes, found "
                + ("none" if found is None else f"{found.size}"),
                hint="restore it from a copy, or build the dataset anew with --rebuild",
            )
    table = read_arrow(dest, SAMPLES, SAMPLES_SCHEMA)
    shards = pa.array([entry.name for entry in manifest.shards], pa.string())
    samples = table.filter(pc.is_in(table["shard"], value_set=shards))
    tracks = set(samples["track"].to_pylist())
    ledger = [
        row
        for row in read_table(dest, LEDGER, LEDGER_SCHEMA)
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
    names = [shard.entry.name for shard in new]
    dest.move({f"{target.staging}/{name}": name for name in names})
    splits = {split: _entries(split, existing, new) for split in SPLITS}
    hashes = {
        SAMPLES: write_table(dest, SAMPLES, _samples(existing, new, ledger)),
        STATISTICS: _write_statistics(target, existing, new),
        LEDGER: write_table(dest, LEDGER, arrow_table(ledger, LEDGER_SCHEMA)),
    }
    network = target.config["codec"]["name"] != "mdct"
    manifest = Manifest(target.fingerprint, target.config, splits, hashes, versions(network))
    manifest.write(dest)
    # What an update left that was interrupted and then withdrawn.
    dest.remove(_tars(dest) - {entry.name for entry in manifest.shards})
    return manifest


def _hashes(dest: Store) -> dict[str, str]:
    """Hashes of the tables and statistics that are there."""
    there = set(dest.entries()) & {SAMPLES, LEDGER, STATISTICS}
    return {name: dest.sha256(name) for name in sorted(there)}


def _tars(dest: Store) -> set[str]:
    return {
        f"{split}/{name}"
        for split in SPLITS
        for name in dest.child(split).files()
        if name.endswith(".tar")
    }


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


def _clear(dest: Store) -> None:
    """Remove an older dataset that is being replaced, its manifest first."""
    dest.remove([MANIFEST])
    for split in SPLITS:
        dest.remove_tree(split)


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


def _write_statistics(target: Target, existing: Existing, new: Sequence[AssembledShard]) -> str:
    """Write the statistics of old and new shards; returns their hash."""
    table: dict[str, dict[str, Mapping[str, Moments]]] = {}
    if existing.manifest is not None:
        old = shard_statistics(target.dest, existing.manifest, target.latents)
        table = {split: dict(shards) for split, shards in old.items()}
    for shard in new:
        table.setdefault(shard.split, {})[shard.entry.name] = shard.moments
    attributes = {"codec": dict(target.config["codec"]), "fingerprint": target.fingerprint}
    with scratch_folder() as folder:
        fresh = folder / STATISTICS
        write_statistics(fresh, table, attributes)
        target.dest.put_tree(fresh, STATISTICS)
        return sha256_tree(fresh)


def shard_statistics(
    dest: Store, manifest: Manifest, load_latents: Callable[[], Latents]
) -> dict[str, dict[str, dict[str, Moments]]]:
    """Moments per split, shard and stream of a dataset.

    From its statistics where they are the ones that were published, else from the shards.
    """
    if STATISTICS in dest.entries() and dest.sha256(STATISTICS) == manifest.files.get(STATISTICS):
        with contextlib.suppress(FormatError):  # derived again below
            return read_shard_statistics(dest)
    latents = load_latents()
    streams = stream_names(manifest.variants)
    table: dict[str, dict[str, dict[str, Moments]]] = {}
    for split, entries in manifest.splits.items():
        for entry in entries:
            with dest.local(entry.name) as path:
                moments = shard_moments(path, streams, latents)
            table.setdefault(split, {})[entry.name] = moments
    return table
