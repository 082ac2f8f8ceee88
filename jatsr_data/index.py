"""The samples of a split that a reader uses, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jatsr_data.filters import Filter, tag_of
from jatsr_data.mixture import Mixture, Repeats
from shards.errors import ConfigError, FormatError
from shards.layout import SAMPLES
from shards.manifest import Manifest, ShardEntry
from shards.storage import Store
from shards.tables import SAMPLES_SCHEMA, read_arrow
from shards.tar import END_OF_ARCHIVE

_COLUMNS = ("key", "shard", "offset", "bytes", "digest", "frames")


@dataclass(frozen=True, eq=False)
class Index:
    """Excerpts in the order of the shards.

    Attributes:
        shards: of the split.
        shard: int64 ``[n]``, position in ``shards``.
        offset: int64 ``[n]``, bytes.
        bytes: int64 ``[n]``.
        frames: int64 ``[n]``.
        digest: uint8 ``[n, 16]``, see docs/format.md.
        key: Arrow array of strings.
        repeats: how often each is taken.
        total: excerpts of the split.
        dropped: condition of the filter -> how many excerpts it left out.
    """

    shards: tuple[ShardEntry, ...]
    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    bytes: NDArray[np.int64]
    frames: NDArray[np.int64]
    digest: NDArray[np.uint8]
    key: pa.Array
    repeats: Repeats
    total: int
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def ids(self) -> NDArray[np.uint64]:
        """What identifies an excerpt: its content, whatever else is in the dataset."""
        identifiers: NDArray[np.uint64] = self.digest[:, :8].copy().view("<u8")[:, 0]
        return identifiers


def read_index(
    store: Store, manifest: Manifest, split: str, select: Filter, mixture: Mixture | None
) -> Index:
    """Read the table of samples and choose from it; no shard is touched.

    Raises:
        ConfigError: the split has no samples, or none that meet the filter.
        FormatError: table and manifest do not agree.
    """
    if split not in manifest.splits:
        raise ConfigError(
            f"{store.url}: there is no split {split!r}",
            hint=f"it has: {', '.join(manifest.splits)}",
        )
    shards = manifest.splits[split]
    columns = select.columns | ({mixture.column} if mixture else set())
    table = _rows_of(store, shards, columns)
    _expect_all(store, shards, table)
    if not len(table):
        sizes = {name: sum(e.samples for e in entries) for name, entries in manifest.splits.items()}
        raise ConfigError(
            f"{store.url}: split {split!r} is empty, found {sizes}",
            hint="build with more tracks or another --val-fraction",
        )
    kept, dropped = select.apply(table)
    chosen = table.filter(kept)
    if not len(chosen):
        raise ConfigError(
            f"{store.url}: none of {len(table)} excerpts of {split!r} meet the filter: "
            + ", ".join(f"{name} leaves out {count}" for name, count in dropped.items()),
            hint="loosen it; `jatsr info` shows what the dataset holds",
        )
    repeats = _repeats(chosen, mixture)
    taken = repeats.expected > 0.0
    chosen, repeats = chosen.filter(pa.array(taken)), repeats.only(taken)
    return Index(
        shards,
        _numbers(chosen, "number"),
        _numbers(chosen, "offset"),
        _numbers(chosen, "bytes"),
        _numbers(chosen, "frames"),
        _digests(chosen),
        chosen["key"].combine_chunks(),
        repeats,
        len(table),
        dropped,
    )


def _rows_of(store: Store, shards: tuple[ShardEntry, ...], more: set[str]) -> pa.Table:
    """The rows of shards, in their order; there may be others of an update under way."""
    table = read_arrow(store, SAMPLES, SAMPLES_SCHEMA, [*_COLUMNS, *sorted(more)])
    names = pa.array([entry.name for entry in shards], pa.string())
    numbered = table.append_column("number", pc.index_in(table["shard"], value_set=names))
    found = numbered.filter(pc.is_valid(numbered["number"]))
    return found.sort_by([("number", "ascending"), ("offset", "ascending")])


def _expect_all(store: Store, shards: tuple[ShardEntry, ...], table: pa.Table) -> None:
    """Raise unless the rows lie in the shards without gaps, as samples do.

    Whether they are those of the samples is found when these are read, by their hashes.
    """
    where = store.join(SAMPLES)
    hint = "run jatsr verify on the dataset; if a build is writing to it, start again"
    if empty := [name for name in _COLUMNS if table[name].null_count]:
        raise FormatError(f"{where}: expected values in column {empty[0]}, found nulls", hint=hint)
    shard, offset, size, frames = (
        _numbers(table, name) for name in ("number", "offset", "bytes", "frames")
    )
    for number, entry in enumerate(shards):
        own = slice(*np.searchsorted(shard, [number, number + 1]))
        if entry.samples != own.stop - own.start:
            raise FormatError(
                f"{where}: expected {entry.samples} samples of {entry.name}, "
                f"found {own.stop - own.start}",
                hint=hint,
            )
        ends = np.concatenate([[0], offset[own] + size[own]])
        expected = np.concatenate([offset[own], [entry.bytes - len(END_OF_ARCHIVE)]])
        if np.any(ends != expected) or np.any(size[own] < 1) or np.any(frames[own] < 1):
            raise FormatError(
                f"{where}: expected samples of {entry.name} one after the other in its "
                f"{entry.bytes} bytes, found others",
                hint=hint,
            )


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    column: NDArray[Any] = table[name].to_numpy()
    return column.astype(np.int64)


def _digests(table: pa.Table) -> NDArray[np.uint8]:
    column = table["digest"].combine_chunks()
    width = column.type.byte_width
    values = np.frombuffer(column.buffers()[1], np.uint8).reshape(-1, width)
    return values[column.offset : column.offset + len(column)]


def _repeats(table: pa.Table, mixture: Mixture | None) -> Repeats:
    if mixture is None:
        return Repeats.once(len(table))
    if mixture.by.startswith("tag:"):
        column = tag_of(table, mixture.by.removeprefix("tag:"))
    else:
        column = table[mixture.by].combine_chunks()
    values = column.dictionary_encode()
    groups = [None, *mixture.weights]
    numbers = [groups.index(mixture.group_of(value)) for value in values.dictionary.to_pylist()]
    encoded = np.array([*numbers, 0], np.int64)[pc.fill_null(values.indices, -1).to_numpy()]
    repeats = Repeats(encoded, np.array([mixture.other, *mixture.weights.values()]))
    _expect_groups(mixture, repeats)
    return repeats


def _expect_groups(mixture: Mixture, repeats: Repeats) -> None:
    sizes = np.bincount(repeats.group, minlength=len(repeats.weight))
    empty = [name for name, size in zip(mixture.weights, sizes[1:], strict=True) if not size]
    if empty:
        raise ConfigError(
            f"Mixture: no excerpt belongs to {empty}",
            hint=f"groups are values of {mixture.by!r}, exactly as `jatsr info` shows them",
        )
    if not np.any(repeats.expected):
        raise ConfigError("Mixture: all weights are 0")
