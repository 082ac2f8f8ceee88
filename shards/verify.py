"""Re-hash, re-read and re-derive everything a dataset says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards.envelope import BINS, COLUMNS, blocks_of
from shards.errors import FormatError
from shards.layout import LEDGER, SAMPLES, SPLITS, STATISTICS, stream_names
from shards.manifest import Manifest, ShardEntry, read_manifest
from shards.statistics import (
    Latents,
    Moments,
    merge_all,
    read_shard_statistics,
    read_totals,
    shard_moments,
)
from shards.storage import canonical_json, sha256_file, sha256_tree
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table
from shards.tar import load_npy, read_samples


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be."""

    where: str
    what: str


@dataclass(frozen=True)
class Checked:
    """One thing that was checked, and what was wrong with it."""

    name: str
    problems: tuple[Problem, ...]


def verify(dataset: Path, latents: Latents | None) -> Iterator[Checked]:
    """Check a dataset, one shard or file at a time.

    Args:
        dataset: its folder.
        latents: the codec's ``latents_array``; None leaves the statistics unchecked.

    Raises:
        FormatError: there is no dataset.
    """
    manifest = read_manifest(dataset)
    rows = _guard("samples.parquet", lambda: read_table(dataset / SAMPLES, SAMPLES_SCHEMA))
    table = rows if isinstance(rows, list) else []
    by_shard: dict[str, list[Mapping[str, Any]]] = {}
    for row in table:
        by_shard.setdefault(row["shard"], []).append(row)
    yield Checked("files", tuple(_check_files(dataset, manifest, by_shard)))
    yield Checked("ledger", tuple(_check_ledger(dataset, manifest, table)))
    derived: dict[str, dict[str, Mapping[str, Moments]]] = {}
    for split in SPLITS:
        for entry in manifest.splits.get(split, ()):
            problems = list(_check_shard(dataset, manifest, entry, by_shard.get(entry.name, [])))
            if latents is not None and not problems:
                moments = shard_moments(
                    dataset / entry.name, stream_names(manifest.variants), latents
                )
                derived.setdefault(split, {})[entry.name] = moments
            yield Checked(entry.name, tuple(problems))
    if latents is not None:
        yield Checked("statistics", tuple(_check_statistics(dataset, derived)))


def _guard(where: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except FormatError as error:
        return Problem(where, error.message)


def _check_files(
    dataset: Path, manifest: Manifest, by_shard: Mapping[str, Sequence[Any]]
) -> Iterator[Problem]:
    for name, expected in sorted(manifest.files.items()):
        path = dataset / name
        if not path.exists():
            yield Problem(name, "missing")
            continue
        found = sha256_tree(path) if path.is_dir() else sha256_file(path)
        if found != expected:
            yield Problem(
                name,
                f"expected sha256 {expected[:12]}, found {found[:12]}; an update may have been "
                "interrupted: run the same jatsr build command again",
            )
    listed = {entry.name for entry in manifest.shards}
    for split in SPLITS:
        for path in sorted((dataset / split).glob("*")):
            name = f"{split}/{path.name}"
            if name not in listed:
                yield Problem(name, "not in dataset.json; an interrupted update may have left it")
    for shard in sorted(set(by_shard) - listed):
        yield Problem(SAMPLES, f"lists samples of {shard}, which is not in dataset.json")


def _check_ledger(
    dataset: Path, manifest: Manifest, samples: Sequence[Mapping[str, Any]]
) -> Iterator[Problem]:
    ledger = _guard(LEDGER, lambda: read_table(dataset / LEDGER, LEDGER_SCHEMA))
    if isinstance(ledger, Problem):
        yield ledger
        return
    excerpts: dict[str, int] = {}
    for row in samples:
        excerpts[row["track"]] = excerpts.get(row["track"], 0) + 1
    ok = {row["track"]: row["excerpts"] for row in ledger if row["status"] == "ok"}
    if ok != excerpts:
        differing = sorted(t for t in {*ok, *excerpts} if ok.get(t) != excerpts.get(t))
        yield Problem(LEDGER, f"does not balance with {SAMPLES}: tracks {differing[:3]}")
    total = sum(entry.samples for entry in manifest.shards)
    if len(samples) != total:
        yield Problem(SAMPLES, f"expected {total} rows, found {len(samples)}")
    if len({row["key"] for row in samples}) != len(samples):
        yield Problem(SAMPLES, "holds a key twice")


def _check_shard(
    dataset: Path, manifest: Manifest, entry: ShardEntry, rows: Sequence[Mapping[str, Any]]
) -> Iterator[Problem]:
    path = dataset / entry.name
    if not path.exists():
        yield Problem(entry.name, "missing")
        return
    if os.path.getsize(path) != entry.bytes:
        yield Problem(entry.name, f"expected {entry.bytes} bytes, found {os.path.getsize(path)}")
    found = sha256_file(path)
    if found != entry.sha256:
        yield Problem(entry.name, f"expected sha256 {entry.sha256[:12]}, found {found[:12]}")
    by_key = {row["key"]: row for row in rows}
    try:
        samples = frames = 0
        for key, offset, size, members in read_samples(path):
            row = by_key.pop(key, None)
            if row is None:
                yield Problem(entry.name, f"sample {key} has no row in {SAMPLES}")
                continue
            if (row["offset"], row["bytes"]) != (offset, size):
                yield Problem(entry.name, f"sample {key} is not where {SAMPLES} says it is")
            yield from _check_sample(manifest, f"{entry.name} {key}", row, members)
            samples, frames = samples + 1, frames + row["frames"]
    except FormatError as error:
        yield Problem(entry.name, error.message)
        return
    for key in sorted(by_key):
        yield Problem(entry.name, f"sample {key} is missing")
    if (samples, frames) != (entry.samples, entry.frames):
        yield Problem(
            entry.name,
            f"expected {entry.samples} samples and {entry.frames} frames, "
            f"found {samples} and {frames}",
        )


def _check_sample(
    manifest: Manifest, where: str, row: Mapping[str, Any], members: Mapping[str, bytes]
) -> Iterator[Problem]:
    streams = stream_names(manifest.variants)
    expected = {"json", "txt", "spectrum.npy", "bands.npy", *(f"{name}.npy" for name in streams)}
    if set(members) != expected:
        yield Problem(where, f"expected members {sorted(expected)}, found {sorted(members)}")
        return
    try:
        metadata = json.loads(members["json"])
        caption = members["txt"].decode("utf-8")
    except ValueError as error:
        yield Problem(where, f"metadata or caption cannot be read: {error}")
        return
    if canonical_json(metadata) != members["json"]:
        yield Problem(where, "the JSON is not canonical")
    if (metadata.get("key"), metadata.get("frames")) != (row["key"], row["frames"]):
        yield Problem(where, f"the JSON disagrees with {SAMPLES}")
    if caption != row["caption"]:
        yield Problem(where, f"the caption disagrees with {SAMPLES}")
    frames, channels = row["frames"], 2 if manifest.config["channels"] == "stereo" else 1
    shapes = {
        "spectrum": ((len(streams), BINS), "uint8"),
        "bands": ((len(streams), blocks_of(frames), COLUMNS), "uint8"),
    }
    stored = (channels, int(manifest.codec["stored_rows"]), frames)
    shapes |= {name: (stored, str(manifest.codec["stored_dtype"])) for name in streams}
    for name, (shape, dtype) in shapes.items():
        array = _guard(where, partial(load_npy, members[f"{name}.npy"]))
        if isinstance(array, Problem):
            yield array
        elif array.shape != shape or array.dtype != np.dtype(dtype):
            yield Problem(
                where,
                f"{name}.npy: expected {dtype} {shape}, found {array.dtype} {array.shape}",
            )
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            yield Problem(where, f"{name}.npy holds values that are not finite")


def _check_statistics(
    dataset: Path,
    derived: Mapping[str, Mapping[str, Mapping[str, Moments]]],
) -> Iterator[Problem]:
    published = _guard(STATISTICS, lambda: read_shard_statistics(dataset / STATISTICS))
    if isinstance(published, Problem):
        yield published
        return
    for split, shards in derived.items():
        for name, streams in shards.items():
            for stream, moments in streams.items():
                there = published.get(split, {}).get(name, {}).get(stream)
                if there is None or not there.same_as(moments):
                    yield Problem(STATISTICS, f"{name} {stream}: not what the shard's latents give")
        totals = _guard(STATISTICS, partial(read_totals, dataset / STATISTICS, split))
        if isinstance(totals, Problem):
            yield totals
            continue
        for stream in next(iter(shards.values()), {}):
            parts = [shards[name][stream] for name in sorted(shards)]
            total = totals.get(stream)
            if total is None or not merge_all(parts, len(parts[0].mean)).same_as(total):
                yield Problem(STATISTICS, f"{split} {stream}: totals are not the sum of the shards")
