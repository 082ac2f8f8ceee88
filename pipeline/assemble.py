"""Parts -> shards: concatenate in planned order, hash, and derive the statistics."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jatsr_model.codecs import CodecSpec, load
from pipeline.delivery import Staged
from pipeline.engines.base import Progress, Run
from pipeline.parts import PartStore
from pipeline.plan import PlannedShard
from shards.files import machine_errors
from shards.layout import stream_names
from shards.manifest import ShardEntry
from shards.scratch import scratch_folder
from shards.statistics import Moments, shard_moments
from shards.storage import LocalStore
from shards.tar import END_OF_ARCHIVE


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
    """Assembles planned shards; runs on any engine that reaches the staging folder.

    Args:
        codec: as resolved, on the CPU.
        variants: low-res variants per sample.
        staged: where parts are, and where shards go under their names.
    """

    codec: CodecSpec
    variants: int
    staged: Staged

    def open(self, report: Callable[[Progress], None]) -> Run:
        """Load the codec's tables; see ``Session``."""
        codec = load(self.codec)
        parts = self.staged.parts()
        streams = stream_names(self.variants)

        def run(tasks: Iterator[PlannedShard]) -> Iterator[AssembledShard]:
            for shard in tasks:
                with self._file(shard.name) as path, machine_errors(f"assembling {shard.name}"):
                    entry, rows, damaged = concatenate(shard, parts, path)
                    moments = {} if damaged else shard_moments(path, streams, codec.spaces)
                    if not damaged and not self.staged.store.is_local:
                        self.staged.store.put(path, shard.name)
                yield AssembledShard(shard.key, shard.split, entry, moments, rows, damaged)

        return run

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[Path]:
        """Where a shard is written: in place, or in a scratch folder to be put from there."""
        if isinstance(self.staged.store, LocalStore):
            yield self.staged.store.path / name
            return
        with scratch_folder() as scratch:
            yield scratch / "shard.tar"


def concatenate(
    shard: PlannedShard, parts: PartStore, path: Path
) -> tuple[ShardEntry, tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """Write a shard from the parts of its tracks, and check them on the way.

    Returns:
        the shard's entry, the table rows of its samples, and the tracks whose parts are missing
        or damaged; these are discarded, and with any of them the shard is not usable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Mapping[str, Any]] = []
    digest = hashlib.sha256()
    loaded = dict(zip(shard.tracks, parts.load_all(shard.tracks), strict=True))
    damaged = [track for track, part in loaded.items() if part is None]
    whole = [part for part in loaded.values() if part is not None]
    with path.open("wb") as file:
        for part, run in zip(whole, parts.runs(whole), strict=True):
            offset, own = file.tell(), hashlib.sha256()
            for piece in run:
                file.write(piece)
                own.update(piece)
                digest.update(piece)
            if own.hexdigest() != part.sha256:
                damaged.append(part.result.track)
                continue
            for row in part.rows:
                place = {
                    "split": shard.split,
                    "shard": shard.name,
                    "offset": offset + row["offset"],
                }
                rows.append({**row, **place})
        file.write(END_OF_ARCHIVE)
        digest.update(END_OF_ARCHIVE)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    for track in damaged:
        parts.discard(track)
    frames = sum(row["frames"] for row in rows)
    entry = ShardEntry(shard.name, len(rows), frames, size, digest.hexdigest())
    return entry, tuple(rows), tuple(damaged)
