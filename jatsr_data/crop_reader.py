"""Reads crops in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_data.batch import Part
from jatsr_data.blocks import Block, OpenBlock, damaged
from jatsr_data.cache import Cache, default_cache_root
from jatsr_data.crops import Crops
from jatsr_data.dataset import LatentDataset
from jatsr_data.index import Index
from jatsr_data.shelf import Shelf
from shards.crop_rolloff import crop_rolloffs, touched_blocks
from shards.cutoff import cutoffs
from shards.envelope import BINS, COLUMNS, blocks_of

AHEAD = 64  # blocks that are fetched before they are needed


class CropReader:
    """Turns crops into batches.

    Args:
        dataset: what is read.
        lanes: how many lanes this process reads at the same time.
    """

    def __init__(self, dataset: LatentDataset, lanes: int) -> None:
        self.dataset = dataset
        options = dataset.options
        cache = None
        if not dataset.store.is_local:
            cache = Cache(options.cache_folder or default_cache_root(), options.cache_bytes)
        self._shelf = Shelf(
            dataset.store,
            dataset.streams,
            cache,
            capacity=lanes * (options.window + 2) + AHEAD,
            verify=options.verify,
            fetchers=2 if dataset.store.is_local else 32,
        )
        codec = dataset.manifest.codec
        self._dtype = np.dtype(codec["stored_dtype"])
        self._shape = (dataset.channels, int(codec["stored_rows"]), dataset.crop_frames)
        self._first = np.flatnonzero(np.diff(dataset.deal.block, prepend=-1))  # of each block
        self._block = lru_cache(maxsize=4096)(partial(_make_block, dataset.index, self._first))

    def want(self, blocks: Iterable[int]) -> None:
        """Start to fetch blocks."""
        self._shelf.want(self._block(int(number)) for number in blocks)

    def close(self) -> None:
        """Stop what is being fetched."""
        self._shelf.close()

    def read(self, crops: Crops, position: int) -> Part:
        """Read crops; a negative sample stands for nothing and is filled with silence.

        Args:
            crops: which.
            position: of the first one in the epoch.
        """
        count = len(crops)
        stored = np.empty((2, count, *self._shape), self._dtype)
        frames = np.zeros(count, np.int64)
        keys, captions = [""] * count, [""] * count
        envelopes = _Envelopes(count, self._shape[-1])
        for row, crop in enumerate(self._located(crops)):
            if crop is None:
                stored[:, row] = self.dataset.silence
                continue
            block = self._shelf.get(self._block(crop.block))
            self._read_frames(block, crop, stored[:, row])
            frames[row], keys[row] = crop.frames, block.block.keys[crop.place]
            captions[row] = block.caption(crop.place)
            spectrum, bands = block.spectrum[crop.place], block.bands[crop.place]
            envelopes.set(row, crop, spectrum, bands)
        places = np.stack([crops.start, frames, crops.variant])
        rolloffs, ends = envelopes.rolloffs(), envelopes.cutoffs()
        return Part(position, stored, rolloffs, ends, places, captions, keys)

    def _located(self, crops: Crops) -> Iterator[_Crop | None]:
        """Where the crops are; None for nothing."""
        index, length = self.dataset.index, self._shape[-1]
        blocks = self.dataset.deal.block[crops.sample]
        excerpts = index.frames[crops.sample]
        columns = (
            blocks,
            crops.sample - self._first[blocks],
            crops.variant,
            crops.start,
            np.minimum(excerpts - crops.start, length),
            excerpts,
        )
        for sample, *values in zip(
            crops.sample.tolist(), *(column.tolist() for column in columns), strict=True
        ):
            yield None if sample < 0 else _Crop(*values)

    def _read_frames(self, block: OpenBlock, crop: _Crop, out: NDArray[Any]) -> None:
        """Fill high- and low-res frames, ``[2, channels, rows, T]``, and silence after them."""
        expected = (*self._shape[:2], crop.excerpt)
        for frames, stream in zip(out, ("hr", f"lr{crop.variant}"), strict=True):
            if (found := block.shape(crop.place, stream)) != expected:
                damaged(
                    f"{self.dataset.store.join(block.block.shard)}: expected "
                    f"{block.block.keys[crop.place]}.{stream}.npy of shape {expected}, "
                    f"found {found}"
                )
            block.read(crop.place, stream, crop.start, frames[..., : crop.frames])
            if crop.frames < self._shape[-1]:
                frames[..., crop.frames :] = self.dataset.silence


def _make_block(index: Index, first_of: NDArray[np.int64], number: int) -> Block:
    """A block by its number; ``first_of`` is the excerpt that begins each."""
    first = int(first_of[number])
    last = int(first_of[number + 1]) if number + 1 < len(first_of) else len(index)
    entry = index.shards[int(index.shard[first])]
    return Block(
        shard=entry.name,
        shard_sha256=entry.sha256,
        shard_bytes=entry.bytes,
        offset=int(index.offset[first]),
        keys=tuple(index.key[first:last].to_pylist()),
        sizes=tuple(index.bytes[first:last].tolist()),
        digests=tuple(row.tobytes() for row in index.digest[first:last]),
    )


@dataclass(frozen=True, slots=True)
class _Crop:
    """Where a crop is.

    Attributes:
        block: number of its block.
        place: of its excerpt in the block.
        variant: of the low-res signal.
        start: first frame.
        frames: valid ones.
        excerpt: frames of the excerpt.
    """

    block: int
    place: int
    variant: int
    start: int
    frames: int
    excerpt: int


class _Envelopes:
    """Collects what the roll-offs of a batch are computed from: rows of hr, then of lr."""

    def __init__(self, count: int, length: int) -> None:
        self._count = count
        self._spectra = np.zeros((2 * count, BINS), np.uint8)
        self._bands = np.zeros((2 * count, blocks_of(length) + 1, COLUMNS), np.uint8)
        self._lengths = np.ones((2 * count, 3), np.int64)  # start, frames, excerpt

    def set(
        self, row: int, crop: _Crop, spectrum: NDArray[np.uint8], bands: NDArray[np.uint8]
    ) -> None:
        touched = touched_blocks(crop.start, crop.frames)
        size = touched.stop - touched.start
        for at, stream in ((row, 0), (row + self._count, 1 + crop.variant)):
            self._spectra[at] = spectrum[stream]
            self._bands[at, :size] = bands[stream, touched]
            self._lengths[at] = crop.start, crop.frames, crop.excerpt

    def rolloffs(self) -> NDArray[np.float32]:
        """Of both, float32 ``[2, count]``; 0 where nothing was set."""
        found = crop_rolloffs(self._spectra, self._bands, *self._lengths.T)
        return found.astype(np.float32).reshape(2, self._count)

    def cutoffs(self) -> NDArray[np.float32]:
        """Float32 ``[count]``; 1 where nothing was set."""
        return cutoffs(*np.split(self._spectra, 2))
