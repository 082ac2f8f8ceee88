"""What is published already, before anything is added to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.errors import FormatError
from shards.layout import LEDGER, SAMPLES, SILENCE, SPLITS, STATISTICS
from shards.manifest import Manifest
from shards.storage import Store
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_arrow, read_table


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
            split: 1 + max((number_of(entry.name) for entry in entries), default=-1)
            for split, entries in self.manifest.splits.items()
        }

    @cached_property
    def splits(self) -> dict[str, str]:
        """Source path -> split of the tracks in the dataset."""
        return {row["source"]: row["split"] for row in self.ledger if row["status"] == "ok"}

    def is_whole(self, dest: Store) -> bool:
        """Whether tables and frame are those of the manifest and nothing else lies about.

        False after an interrupted update, which publishing again mends.
        """
        assert self.manifest is not None
        listed = {entry.name for entry in self.manifest.shards}
        return _hashes(dest) == dict(self.manifest.files) and tars(dest) == listed


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


def number_of(name: str) -> int:
    """The number in the name of a shard."""
    return int(Path(name).stem)


def _hashes(dest: Store) -> dict[str, str]:
    """Hashes of what is there beside the shards."""
    there = set(dest.entries()) & {SAMPLES, LEDGER, STATISTICS, SILENCE}
    return {name: dest.sha256(name) for name in sorted(there)}


def tars(dest: Store) -> set[str]:
    """Names of all tars that are there, listed in the manifest or not."""
    return {
        f"{split}/{name}"
        for split in SPLITS
        for name in dest.child(split).files()
        if name.endswith(".tar")
    }
