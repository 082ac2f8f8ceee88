"""Per-channel moments that merge exactly, and their place in ``stats.zarr``.

``(n, mean, M2, min, max)`` in float64; M2 is the sum of squared deviations, so that zero-mean data
keep their variance. Updates are two-pass per block, merges follow Chan, Golub and LeVeque (1979).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import FormatError
from shards.tar import load_npy, read_samples

Latents = Callable[[NDArray[Any]], NDArray[np.float32]]
FIELDS = ("mean", "m2", "min", "max")


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of ``n`` observations of each of C channels; arrays are float64 ``[C]``."""

    n: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]

    @staticmethod
    def empty(channels: int) -> Moments:
        """Moments of nothing: the neutral element of ``merge``."""
        zero, infinite = np.zeros(channels), np.full(channels, np.inf)
        return Moments(0, zero, zero.copy(), infinite, -infinite)

    @staticmethod
    def of(values: NDArray[Any]) -> Moments:
        """Moments over the last axis and all leading ones of ``[..., C, T]``."""
        channels = values.shape[-2]
        flat = np.moveaxis(values, -2, 0).reshape(channels, -1).astype(np.float64)
        if flat.shape[1] == 0:
            return Moments.empty(channels)
        mean = flat.mean(axis=1)
        low, high = flat.min(axis=1), flat.max(axis=1)
        flat -= mean[:, None]
        # The second term removes what rounding of the mean leaves (Chan's corrected two-pass).
        residue = flat.sum(axis=1)
        m2 = np.einsum("ct,ct->c", flat, flat) - residue * residue / flat.shape[1]
        return Moments(flat.shape[1], mean, np.maximum(m2, 0.0), low, high)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of observations together."""
        if other.n == 0:
            return self
        if self.n == 0:
            return other
        n = self.n + other.n
        delta = other.mean - self.mean
        return Moments(
            n,
            self.mean + delta * (other.n / n),
            self.m2 + other.m2 + delta * delta * (self.n * (other.n / n)),
            np.minimum(self.min, other.min),
            np.maximum(self.max, other.max),
        )

    @property
    def variance(self) -> NDArray[np.float64]:
        """Population variance ``[C]``."""
        return self.m2 / self.n

    def same_as(self, other: Moments, *, relative: float = 1e-9) -> bool:
        """Whether both describe the same data, up to rounding."""
        if self.n != other.n:
            return False
        scale = np.sqrt(np.maximum(self.m2, other.m2) / max(self.n, 1)) + np.abs(self.mean) + 1e-12
        return bool(
            np.all(np.abs(self.mean - other.mean) <= relative * scale)
            and np.allclose(self.m2, other.m2, rtol=1e3 * relative, atol=relative)
            and np.all(np.abs(self.min - other.min) <= _rounding(relative, self.min))
            and np.all(np.abs(self.max - other.max) <= _rounding(relative, self.max))
        )


def _rounding(relative: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What single values may differ by: latents are float32 sums, rounded by the processor."""
    scale: NDArray[np.float64] = np.maximum(np.abs(values), 1e-3)
    return scale * (max(relative, 1e-6) if relative else 0.0)


def merge_all(parts: Iterable[Moments], channels: int) -> Moments:
    """Merge in the given order, which is what makes the result reproducible."""
    total = Moments.empty(channels)
    for part in parts:
        total = total.merge(part)
    return total


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


def read_totals(path: Path, split: str) -> dict[str, Moments]:
    """Totals of a split per stream, as a trainer needs them; empty for a split without samples."""
    with _expect_statistics(path) as root:
        if split not in root:
            return {}
        return {
            name: Moments(int(node["n"][0]), *(np.asarray(node[field]) for field in FIELDS))
            for name, node in root[split].groups()
        }


def read_shard_statistics(path: Path) -> dict[str, dict[str, dict[str, Moments]]]:
    """The per-shard moments again: split -> shard name -> stream -> moments."""
    result: dict[str, dict[str, dict[str, Moments]]] = {}
    with _expect_statistics(path) as root:
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
def _expect_statistics(path: Path) -> Iterator[Any]:
    """The root group; whatever a damaged store raises becomes a ``FormatError``."""
    import zarr

    try:
        yield zarr.open_group(path, mode="r")
    # What zarr and its codecs raise on damaged metadata and chunks.
    except (LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise FormatError(
            f"{path}: expected the statistics of a dataset, found none that can be read ({error})",
            hint="run the same jatsr build command again: it derives them from the shards",
        ) from error
