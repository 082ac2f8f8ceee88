"""Re-hash and re-read one shard, and derive its statistics again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards.envelope import BINS, COLUMNS, blocks_of
from shards.errors import FormatError
from shards.files import canonical_json, sha256_file
from shards.layout import SAMPLES, stream_names
from shards.manifest import Manifest, ShardEntry
from shards.problems import Checked, Problem, guard
from shards.statistics import Moments, Spaces, shard_moments
from shards.storage import Store
from shards.tar import load_npy, read_samples, sample_digest


def check_shard(
    store: Store,
    manifest: Manifest,
    entry: ShardEntry,
    rows: Sequence[Mapping[str, Any]],
    spaces: Spaces | None,
) -> tuple[Checked, Mapping[str, Moments] | None]:
    """What is wrong with a shard, and its statistics if nothing is and they are asked for."""
    found = store.stat(entry.name)
    if found is None:
        return Checked(entry.name, (Problem(entry.name, "missing"),)), None
    problems: list[Problem] = []
    if found.size != entry.bytes:
        what = f"expected {entry.bytes} bytes, found {found.size}"
        problems.append(Problem(entry.name, what))
    moments = None
    with store.local(entry.name) as path:
        problems += _check_content(path, manifest, entry, rows)
        if spaces is not None and not problems:
            moments = shard_moments(path, stream_names(manifest.variants), spaces)
    return Checked(entry.name, tuple(problems)), moments


def _check_content(
    path: Path, manifest: Manifest, entry: ShardEntry, rows: Sequence[Mapping[str, Any]]
) -> Iterator[Problem]:
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
            yield from _check_digest(path, entry, row, offset, size)
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


def _check_digest(
    path: Path, entry: ShardEntry, row: Mapping[str, Any], offset: int, size: int
) -> Iterator[Problem]:
    with path.open("rb") as file:
        file.seek(offset)
        found = sample_digest(file.read(size)).hex()
    expected = row["digest"].hex() if row["digest"] else "none"
    if found != expected:
        where = f"{entry.name} {row['key']}"
        yield Problem(where, f"expected digest {expected}, found {found}")


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
        array = guard(where, partial(load_npy, members[f"{name}.npy"]))
        if isinstance(array, Problem):
            yield array
        elif array.shape != shape or array.dtype != np.dtype(dtype):
            yield Problem(
                where,
                f"{name}.npy: expected {dtype} {shape}, found {array.dtype} {array.shape}",
            )
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            yield Problem(where, f"{name}.npy holds values that are not finite")
