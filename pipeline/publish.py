"""Make a dataset exist: shards, tables and statistics first, ``dataset.json`` last."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from pipeline.assemble import AssembledShard
from pipeline.existing import Existing, number_of, tars
from shards.errors import FormatError
from shards.files import sha256_tree
from shards.layout import LEDGER, MANIFEST, SAMPLES, SILENCE, SPLITS, STATISTICS, stream_names
from shards.manifest import Manifest, ShardEntry
from shards.scratch import scratch_folder
from shards.silence import read_silence
from shards.statistics import (
    Moments,
    Spaces,
    read_shard_statistics,
    shard_moments,
    write_statistics,
)
from shards.storage import Store
from shards.tables import (
    LEDGER_SCHEMA,
    SAMPLES_SCHEMA,
    arrow_table,
    write_table,
)
from shards.tar import npy_bytes

_LIBRARIES = ("jatsr", "numpy", "scipy", "soxr", "soundfile", "webdataset", "pyarrow", "zarr")
_NETWORK_LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True)
class Target:
    """What is published where."""

    dest: Store
    staging: str  # folder in it that holds the new shards under their final relative names
    fingerprint: str
    config: Mapping[str, Any]
    spaces: Callable[[], Spaces]  # loads the codec, where statistics must be derived again
    silence: Callable[[], NDArray[Any]]  # the codec's frame, where there is none yet


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
        SILENCE: _write_silence(target, existing),
        SAMPLES: write_table(dest, SAMPLES, _samples(existing, new, ledger)),
        STATISTICS: _write_statistics(target, existing, new),
        LEDGER: write_table(dest, LEDGER, arrow_table(ledger, LEDGER_SCHEMA)),
    }
    network = target.config["codec"]["name"] != "mdct"
    manifest = Manifest(target.fingerprint, target.config, splits, hashes, versions(network))
    manifest.write(dest)
    # What an update left that was interrupted and then withdrawn.
    dest.remove(tars(dest) - {entry.name for entry in manifest.shards})
    return manifest


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
    return tuple(sorted((*old, *added), key=lambda entry: number_of(entry.name)))


def _samples(
    existing: Existing, new: Sequence[AssembledShard], ledger: Sequence[Mapping[str, Any]]
) -> pa.Table:
    sources = {row["track"]: row["source"] for row in ledger if row["status"] == "ok"}
    rows = [{**row, "source": sources[row["track"]]} for shard in new for row in shard.rows]
    fresh = arrow_table(rows, SAMPLES_SCHEMA)
    return fresh if existing.samples is None else pa.concat_tables([existing.samples, fresh])


def _write_silence(target: Target, existing: Existing) -> str:
    """Write the frame of silence where it is not there already; returns its hash."""
    if existing.manifest is not None:
        with contextlib.suppress(FormatError):  # written again below
            read_silence(target.dest, existing.manifest)
            return existing.manifest.files[SILENCE]
    data = npy_bytes(target.silence())
    target.dest.write(SILENCE, data)
    return hashlib.sha256(data).hexdigest()


def _write_statistics(target: Target, existing: Existing, new: Sequence[AssembledShard]) -> str:
    """Write the statistics of old and new shards; returns their hash."""
    table: dict[str, dict[str, Mapping[str, Moments]]] = {}
    if existing.manifest is not None:
        old = shard_statistics(target.dest, existing.manifest, target.spaces)
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
    dest: Store, manifest: Manifest, load_spaces: Callable[[], Spaces]
) -> dict[str, dict[str, dict[str, Moments]]]:
    """Moments per split, shard and stream of a dataset, in every space.

    From its statistics where they are the ones that were published, else from the shards.
    """
    if STATISTICS in dest.entries() and dest.sha256(STATISTICS) == manifest.files.get(STATISTICS):
        with contextlib.suppress(FormatError):  # derived again below
            return read_shard_statistics(dest)
    spaces = load_spaces()
    streams = stream_names(manifest.variants)
    table: dict[str, dict[str, dict[str, Moments]]] = {}
    for split, entries in manifest.splits.items():
        for entry in entries:
            with dest.local(entry.name) as path:
                moments = shard_moments(path, streams, spaces)
            table.setdefault(split, {})[entry.name] = moments
    return table
