"""Samples of a dataset by position, straight from the tars: the simplest way to look inside."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.crop_rolloff import crop_rolloff
from shards.errors import FormatError
from shards.layout import SAMPLES, stream_names
from shards.manifest import Manifest, read_manifest
from shards.storage import StoreLike, open_store
from shards.tables import SAMPLES_SCHEMA, read_table
from shards.tar import END_OF_ARCHIVE, load_npy


@dataclass(frozen=True, eq=False)
class Sample:
    """One excerpt of a track.

    Attributes:
        key: ``<track>_<excerpt>``.
        streams: ``hr``, ``lr0``, ... -> stored frames ``[channels, rows, frames]``.
        metadata: the sample's JSON: levels, low-res parameters, tags, place in the track.
        caption: what it sounds like, or empty.
        spectrum: uint8 ``[streams, bins]``, see ``shards.envelope``.
        bands: uint8 ``[streams, blocks, bands]``.
    """

    key: str
    streams: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, Any]
    caption: str
    spectrum: NDArray[np.uint8]
    bands: NDArray[np.uint8]

    @property
    def frames(self) -> int:
        """Frames of every stream."""
        return int(self.metadata["frames"])

    def rolloff(self, stream: str, start: int = 0, frames: int | None = None) -> float:
        """Roll-off of a crop of a stream, as a fraction of the Nyquist frequency in [0, 1).

        Args:
            stream: ``hr``, ``lr0``, ...
            start: first frame of the crop.
            frames: its length; None for the rest of the excerpt.
        """
        index = list(self.streams).index(stream)
        count = self.frames - start if frames is None else frames
        return crop_rolloff(self.spectrum[index], self.bands[index], start, count, self.frames)


class Samples(Sequence[Sample]):
    """Samples of a split in the order of the shards; reads one when it is asked for."""

    def __init__(self, dataset: StoreLike, split: str) -> None:
        self._store = open_store(dataset)
        self.manifest: Manifest = read_manifest(self._store)
        shards = {entry.name for entry in self.manifest.splits.get(split, ())}
        rows = read_table(self._store, SAMPLES, SAMPLES_SCHEMA)
        self.rows = [row for row in rows if row["shard"] in shards]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._read(self.rows[index])

    def _read(self, row: Mapping[str, Any]) -> Sample:
        data = self._store.read(row["shard"], row["offset"], row["bytes"])
        try:
            with tarfile.open(fileobj=BytesIO(data + END_OF_ARCHIVE), mode="r:") as tar:
                members = {
                    info.name.partition(".")[2]: tar.extractfile(info).read()  # type: ignore[union-attr]
                    for info in tar
                }
            metadata = json.loads(members["json"])
            names = stream_names(self.manifest.variants)
            return Sample(
                metadata["key"],
                {name: load_npy(members[f"{name}.npy"]) for name in names},
                metadata,
                members["txt"].decode("utf-8"),
                load_npy(members["spectrum.npy"]),
                load_npy(members["bands.npy"]),
            )
        except (tarfile.TarError, KeyError, ValueError) as error:
            raise FormatError(
                f"{self._store.join(row['shard'])}: expected sample {row['key']} at byte "
                f"{row['offset']}, found {error!r}",
                hint="run jatsr verify on the dataset",
            ) from error


def open_samples(dataset: StoreLike, split: str = "train") -> Samples:
    """Open a split of a dataset; of a remote one, single samples are fetched when asked for.

    Args:
        dataset: path or URL of a dataset.
        split: ``train`` or ``val``.

    Raises:
        FormatError: there is no readable dataset.
    """
    return Samples(dataset, split)
