"""Parts -> shards: concatenate in planned order, hash, and derive the statistics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jatsr_model.codecs import CodecSpec, load
from pipeline.engines.base import Progress, Run
from pipeline.parts import PartStore
from pipeline.plan import PlannedShard
from shards.layout import stream_names
from shards.manifest import ShardEntry
from shards.statistics import Moments, shard_moments
from shards.storage import machine_errors
from shards.tar import END_OF_ARCHIVE

_CHUNK = 1 << 20


@dataclass(frozen=True)
class AssembledShard:
    """A shard that lies complete in the staging folder."""

    key: str
    split: str
    entry: ShardEntry
    moments: Mapping[str, Moments]
    rows: tuple[Mapping[str, Any], ...]  # of samples.parquet, without the source
    damaged: tuple[str, ...] = ()  # tracks whose parts were not what was staged; now discarded


@dataclass(frozen=True)
class AssembleSession:
    """Assembles planned shards; runs on any engine."""

    codec: CodecSpec
    variants: int
    parts: Path
    target: Path

    def open(self, report: Callable[[Progress], None]) -> Run:
        """Load the codec's tables; see ``Session``."""
        codec = load(self.codec)
        store = PartStore(self.parts)
        streams = stream_names(self.variants)

        def run(tasks: Iterator[PlannedShard]) -> Iterator[AssembledShard]:
            for shard in tasks:
                path = self.target / shard.name
                with machine_errors(f"assembling {shard.name}"):
                    entry, rows, damaged = concatenate(shard, store, path)
                    moments = {} if damaged else shard_moments(path, streams, codec.latents_array)
                yield AssembledShard(shard.key, shard.split, entry, moments, rows, damaged)

        return run


def concatenate(
    shard: PlannedShard, store: PartStore, path: Path
) -> tuple[ShardEntry, tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Write one shard from its parts.

    Args:
        shard: the plan; every track has a part with samples.
        store: where the parts are.
        path: the tar to write.

    Returns:
        the entry for the manifest, rows of ``samples.parquet``, and the tracks whose parts are
        missing or damaged (after a power cut): they are discarded and the shard is of no use.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    rows: list[dict[str, Any]] = []
    damaged = []
    offset = 0
    with path.open("wb") as file:
        for track in shard.tracks:
            part = store.load(track)
            if part is None or _append(store.run_path(track), file, digest) != part.sha256:
                store.discard(track)
                damaged.append(track)
                continue
            for row in part.rows:
                place = {
                    "split": shard.split,
                    "shard": shard.name,
                    "offset": offset + row["offset"],
                }
                rows.append({**row, **place})
            offset += part.bytes
        file.write(END_OF_ARCHIVE)
        digest.update(END_OF_ARCHIVE)
        file.flush()
        os.fsync(file.fileno())
    frames = sum(row["frames"] for row in rows)
    size = offset + len(END_OF_ARCHIVE)
    entry = ShardEntry(shard.name, len(rows), frames, size, digest.hexdigest())
    return entry, tuple(rows), tuple(damaged)


def _append(run: Path, file: BinaryIO, shard_digest: hashlib._Hash) -> str:
    """Copy a run to the end of a shard; returns the run's own sha256."""
    digest = hashlib.sha256()
    with run.open("rb") as source:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            shard_digest.update(chunk)
    return digest.hexdigest()
