"""Make a dataset exist: shards, tables and statistics first, ``dataset.json`` last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jatsr_model.codecs import CodecSpec, load
from pipeline.assemble import AssembledShard
from shards.errors import FormatError
from shards.layout import LEDGER, MANIFEST, SAMPLES, SPLITS, STATISTICS, stream_names
from shards.manifest import Manifest, ShardEntry
from shards.statistics import Moments, read_shard_statistics, shard_moments, write_statistics
from shards.storage import fsync_folder, sha256_file, sha256_tree
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table, write_table

_LIBRARIES = ("jatsr", "numpy", "scipy", "soxr", "soundfile", "webdataset", "pyarrow", "zarr")
_NETWORK_LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True)
class Existing:
    """What is published already; empty for a new dataset."""

    manifest: Manifest | None = None
    samples: Sequence[Mapping[str, Any]] = ()
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


def load_existing(dest: Path, manifest: Manifest) -> Existing:
    """Read the tables of a published dataset, less what an interrupted update left in them."""
    shards = {entry.name for entry in manifest.shards}
    samples = [row for row in read_table(dest / SAMPLES, SAMPLES_SCHEMA) if row["shard"] in shards]
    tracks = {row["track"] for row in samples}
    ledger = [
        row
        for row in read_table(dest / LEDGER, LEDGER_SCHEMA)
        if row["status"] != "ok" or row["track"] in tracks
    ]
    return Existing(manifest, samples, ledger)


def publish(
    dest: Path,
    staging: Path,
    existing: Existing,
    assembled: Sequence[AssembledShard],
    ledger: Sequence[Mapping[str, Any]],
    manifest: Manifest,
    codec: CodecSpec,
) -> Manifest:
    """Publish new shards beside those that exist.

    Args:
        dest: the dataset.
        staging: holds the new shards under their final relative names.
        existing: what stays; its shards are not touched.
        assembled: the new shards.
        ledger: all rows.
        manifest: fingerprint and configuration; splits and files are filled in here.
        codec: for statistics that have to be derived again.

    Returns:
        the manifest that was written.
    """
    new = [shard for shard in assembled if shard.entry is not None]
    if existing.manifest is None:
        _clear(dest)
    for shard in new:
        assert shard.entry is not None
        target = dest / shard.entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / shard.entry.name, target)
        fsync_folder(target.parent)
    splits = {split: _entries(split, existing, new) for split in SPLITS}
    _write_samples(dest, existing, new, ledger)
    _write_statistics(dest, staging, existing, new, manifest, codec)
    write_table(dest / LEDGER, ledger, LEDGER_SCHEMA)
    files = {name: sha256_file(dest / name) for name in (SAMPLES, LEDGER)}
    files[STATISTICS] = sha256_tree(dest / STATISTICS)
    result = Manifest(
        manifest.fingerprint, manifest.config, splits, files, versions(codec.name != "mdct")
    )
    result.write(dest)
    return result


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
    added = tuple(shard.entry for shard in new if shard.split == split and shard.entry)
    return tuple(sorted((*old, *added), key=lambda entry: _number(entry.name)))


def _write_samples(
    dest: Path,
    existing: Existing,
    new: Sequence[AssembledShard],
    ledger: Sequence[Mapping[str, Any]],
) -> None:
    sources = {row["track"]: row["source"] for row in ledger if row["status"] == "ok"}
    rows = [*existing.samples]
    for shard in new:
        rows += [{**row, "source": sources[row["track"]]} for row in shard.rows]
    write_table(dest / SAMPLES, rows, SAMPLES_SCHEMA)


def _write_statistics(
    dest: Path,
    staging: Path,
    existing: Existing,
    new: Sequence[AssembledShard],
    manifest: Manifest,
    codec: CodecSpec,
) -> None:
    table: dict[str, dict[str, Mapping[str, Moments]]] = {}
    if existing.manifest is not None:
        for split, shards in _existing_statistics(dest, existing.manifest, codec).items():
            table[split] = dict(shards)
    for shard in new:
        assert shard.entry is not None
        table.setdefault(shard.split, {})[shard.entry.name] = shard.moments
    fresh = staging / STATISTICS
    attributes = {"codec": dict(codec.identity), "fingerprint": manifest.fingerprint}
    write_statistics(fresh, table, attributes)
    old = staging / f"{STATISTICS}.old"
    shutil.rmtree(old, ignore_errors=True)
    if (dest / STATISTICS).exists():
        os.replace(dest / STATISTICS, old)
    os.replace(fresh, dest / STATISTICS)
    shutil.rmtree(old, ignore_errors=True)


def _existing_statistics(
    dest: Path, manifest: Manifest, codec: CodecSpec
) -> dict[str, dict[str, dict[str, Moments]]]:
    """From the file where it is the one that was published, else from the shards."""
    path = dest / STATISTICS
    if path.exists() and sha256_tree(path) == manifest.files.get(STATISTICS):
        try:
            return read_shard_statistics(path)
        except FormatError:
            pass  # derived again below
    latents = load(codec).latents_array
    streams = stream_names(manifest.variants)
    return {
        split: {entry.name: shard_moments(dest / entry.name, streams, latents) for entry in entries}
        for split, entries in manifest.splits.items()
        if entries
    }
