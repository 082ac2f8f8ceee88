"""Moments of the latents of every shard and split, and their place in ``stats.zarr``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import FormatError
from shards.moments import Moments, merge_all
from shards.statistics_files import FIELDS, open_statistics, open_totals
from shards.storage import StoreLike, open_store
from shards.tar import load_npy, read_samples

__all__ = [
    "Latents",
    "Moments",
    "ShardStatistics",
    "Spaces",
    "merge_all",
    "read_shard_statistics",
    "read_totals",
    "shard_moments",
    "write_statistics",
]

Latents = Callable[[NDArray[Any]], NDArray[np.float32]]
"""Stored array ``[..., rows, T]`` -> float32 ``[..., channels, T]``."""

Spaces = Mapping[str, Latents]
"""What statistics are kept of: what follows a stream's name in ``stats.zarr`` -> mapping."""


def shard_moments(path: Path, streams: Sequence[str], spaces: Spaces) -> dict[str, Moments]:
    """Moments of every stream of one shard in every space, in the order of its samples.

    Args:
        path: a shard.
        streams: member names, ``hr``, ``lr0``, ...
        spaces: the codec's.

    Returns:
        stream and suffix of the space -> moments.
    """
    totals: dict[str, Moments] = {}
    for key, _, _, members in read_samples(path):
        for stream in streams:
            if f"{stream}.npy" not in members:
                raise FormatError(f"{path}: sample {key} has no member {stream}.npy")
            stored = load_npy(members[f"{stream}.npy"])
            for suffix, latents in spaces.items():
                name, part = stream + suffix, Moments.of(latents(stored))
                totals[name] = totals[name].merge(part) if name in totals else part
    return totals


ShardStatistics = Mapping[str, Mapping[str, Mapping[str, Moments]]]
"""split -> shard name -> stream and suffix -> moments."""


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
            _write_total(node, "n", np.array([total.n], np.int64))
            rows = node.create_group("shards")
            rows.create_array("n", data=np.array([part.n for part in parts], np.int64))
            for field in FIELDS:
                _write_total(node, field, getattr(total, field))
                table = np.stack([getattr(part, field) for part in parts])
                rows.create_array(field, data=table, chunks=table.shape)


def _write_total(node: Any, name: str, data: NDArray[Any]) -> None:
    """One chunk, written also if it is all zeros: so readers know every file by its name."""
    node.create_array(name, data=data, chunks=data.shape, config={"write_empty_chunks": True})


def read_totals(dataset: StoreLike, split: str) -> dict[str, Moments]:
    """Totals of a split, as a trainer needs them; empty for a split without samples.

    What they are made of is not downloaded, and nothing is listed: a web server will do.

    Returns:
        ``hr``, ``lr0``, ... -> moments of the latents; of a codec with projections also
        ``hr.projected``, ...

    Raises:
        FormatError: the statistics (or, of a remote dataset, the manifest) are missing or damaged.
    """
    with open_totals(open_store(dataset), split) as root:
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
    result: dict[str, dict[str, dict[str, Moments]]] = {}
    with open_statistics(open_store(dataset)) as root:
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
