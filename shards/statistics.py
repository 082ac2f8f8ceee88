"""Moments of the latents of every shard and split, and their place in ``stats.zarr``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import FormatError
from shards.layout import STATISTICS
from shards.moments import Moments, merge_all
from shards.scratch import scratch_folder
from shards.storage import Store, StoreLike, open_store
from shards.tar import load_npy, read_samples

__all__ = [
    "Latents",
    "Moments",
    "ShardStatistics",
    "merge_all",
    "read_shard_statistics",
    "read_totals",
    "shard_moments",
    "write_statistics",
]

Latents = Callable[[NDArray[Any]], NDArray[np.float32]]
FIELDS = ("mean", "m2", "min", "max")


def shard_moments(path: Path, streams: Sequence[str], latents: Latents) -> dict[str, Moments]:
    """Moments of the latents of every stream of one shard, in the order of its samples.

    Args:
        path: a shard.
        streams: member names, ``hr``, ``lr0``, ...
        latents: stored array ``[C, rows, T]`` -> float32 ``[C, latent_dim, T]``.
    """
    totals: dict[str, Moments] = {}
    for key, _, _, members in read_samples(path):
        for stream in streams:
            if f"{stream}.npy" not in members:
                raise FormatError(f"{path}: sample {key} has no member {stream}.npy")
            part = Moments.of(latents(load_npy(members[f"{stream}.npy"])))
            totals[stream] = totals[stream].merge(part) if stream in totals else part
    return totals


ShardStatistics = Mapping[str, Mapping[str, Mapping[str, Moments]]]
"""split -> shard name -> stream -> moments."""


def write_statistics(
    path: Path, statistics: ShardStatistics, attributes: Mapping[str, Any]
) -> None:
    """Write ``stats.zarr``: per split and stream the totals, and per shard what they are made of.

    Args:
        path: folder to create; an existing one is replaced.
        statistics: moments per shard.
        attributes: JSON-ready facts for the root group (codec, latent space).
    """
    import zarr

    if path.exists():
        shutil.rmtree(path)
    root = zarr.open_group(path, mode="w", zarr_format=3)
    root.attrs.update(dict(attributes))
    for split, shards in sorted(statistics.items()):
        names = sorted(shards)
        group = root.create_group(split)
        group.attrs["shards"] = names
        streams = sorted({stream for name in names for stream in shards[name]})
        for stream in streams:
            parts = [shards[name][stream] for name in names]
            total = merge_all(parts, len(parts[0].mean))
            node = group.create_group(stream)
            node.create_array("n", data=np.array([total.n], np.int64))
            rows = node.create_group("shards")
            rows.create_array("n", data=np.array([part.n for part in parts], np.int64))
            for field in FIELDS:
                node.create_array(field, data=getattr(total, field))
                table = np.stack([getattr(part, field) for part in parts])
                rows.create_array(field, data=table, chunks=table.shape)


def read_totals(dataset: StoreLike, split: str) -> dict[str, Moments]:
    """Totals of a split per stream, as a trainer needs them; empty for a split without samples.

    What they are made of is not downloaded.

    Raises:
        FormatError: the statistics are missing or damaged.
    """
    store = open_store(dataset)
    with _local_totals(store, split) as path, _expect_statistics(path, store) as root:
        if split not in root:
            return {}
        return {
            name: Moments(int(node["n"][0]), *(np.asarray(node[field]) for field in FIELDS))
            for name, node in root[split].groups()
        }


def read_shard_statistics(dataset: StoreLike) -> dict[str, dict[str, dict[str, Moments]]]:
    """The per-shard moments again: split -> shard name -> stream -> moments.

    Raises:
        FormatError: the statistics are missing or damaged.
    """
    store = open_store(dataset)
    result: dict[str, dict[str, dict[str, Moments]]] = {}
    with _local_statistics(store) as path, _expect_statistics(path, store) as root:
        for split, group in root.groups():
            names = list(group.attrs["shards"])
            table: dict[str, dict[str, Moments]] = {name: {} for name in names}
            for stream, node in group.groups():
                rows = node["shards"]
                counts = np.asarray(rows["n"])
                columns = [np.asarray(rows[field]) for field in FIELDS]
                for index, name in enumerate(names):
                    table[name][stream] = Moments(
                        int(counts[index]), *(column[index] for column in columns)
                    )
            result[split] = table
    return result


@contextlib.contextmanager
def _local_statistics(store: Store) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(store.local(STATISTICS))
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(store) from None
        yield path


@contextlib.contextmanager
def _local_totals(store: Store, split: str) -> Iterator[Path]:
    """A local ``stats.zarr`` with the totals of a split."""
    if store.is_local:
        with _local_statistics(store) as path:
            yield path
        return
    remote = store.child(STATISTICS)
    names = [name for name in remote.files(split) if "shards" not in name.split("/")]
    with scratch_folder() as folder:
        for name, data in remote.read_many(["zarr.json", *names]):
            if data is None:
                raise _missing(store)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        yield folder


def _missing(store: Store) -> FormatError:
    return FormatError(
        f"{store.join(STATISTICS)}: expected the statistics of a dataset, found none",
        hint="run the same jatsr build command again: it derives them from the shards",
    )


@contextlib.contextmanager
def _expect_statistics(path: Path, store: Store) -> Iterator[Any]:
    """The root group; whatever a damaged store raises becomes a ``FormatError``."""
    import zarr

    try:
        yield zarr.open_group(path, mode="r")
    # What zarr and its codecs raise on damaged metadata and chunks.
    except (LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise FormatError(
            f"{store.join(STATISTICS)}: expected the statistics of a dataset, found none that can "
            f"be read ({error})",
            hint="run the same jatsr build command again: it derives them from the shards",
        ) from error
