"""What one worker makes of a batch: the crops of its own lanes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_data.batch import Part
from jatsr_data.crop_reader import AHEAD, CropReader
from jatsr_data.crops import Crops
from jatsr_data.dataset import LatentDataset


@dataclass(frozen=True)
class Request:
    """The positions of ``[first, first + size)`` that leave ``part`` when divided by ``parts``."""

    epoch: int
    first: int
    size: int
    part: int
    parts: int


class PartReader:
    """Answers requests. What it keeps only makes the next ones faster: any process can answer any.

    Args:
        dataset: what is read.
        parts: of how many a process reads one.
    """

    def __init__(self, dataset: LatentDataset, parts: int) -> None:
        self._dataset, self._parts = dataset, parts
        self._reader: CropReader | None = None
        self._sequence: _Sequence | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_sequence": None}

    @property
    def name(self) -> str:
        """Of the dataset, for messages."""
        return self._dataset.store.url

    def close(self) -> None:
        """Stop what is being fetched."""
        if self._reader is not None:
            self._reader.close()
        self._reader = self._sequence = None

    def read(self, request: Request) -> Part:
        """Read what is asked for.

        Raises:
            JatsrError: it cannot be read.
        """
        if self._reader is None:
            lanes = self._dataset.options.lanes // self._parts
            self._reader = CropReader(self._dataset, lanes)
        begin, end = (
            -((request.part - at) // request.parts)
            for at in (request.first, request.first + request.size)
        )
        sequence = self._sequence
        if sequence is None or not sequence.continues_with(request, begin):
            self._sequence = sequence = _Sequence(self._dataset, request, begin)
        crops, blocks = sequence.advance(end)
        self._reader.want(blocks)
        return self._reader.read(crops, request.part + begin * request.parts)


class _Sequence:
    """The crops of a part of an epoch from somewhere on, and the blocks they need, in order."""

    def __init__(self, dataset: LatentDataset, request: Request, begin: int) -> None:
        self._epoch, self._part, self._begin, self._at = request.epoch, request.part, begin, begin
        self._crops = dataset.epoch(request.epoch).part(request.part, request.parts)[begin:]
        block = dataset.deal.block[self._crops.sample]
        blocks, first = np.unique(block, return_index=True)
        order = np.argsort(first)
        self._blocks, self._needed = blocks[order], first[order]
        self._wanted = 0

    def continues_with(self, request: Request, begin: int) -> bool:
        return (self._epoch, self._part, self._at) == (request.epoch, request.part, begin)

    def advance(self, end: int) -> tuple[Crops, NDArray[np.int64]]:
        """The crops up to ``end``, nothing beyond the last; and the blocks to be fetched now."""
        found = self._crops[self._at - self._begin : end - self._begin]
        missing = np.zeros(end - self._at - len(found), np.int64)
        crops = Crops(
            np.concatenate([found.sample, missing - 1]),
            np.concatenate([found.start, missing]),
            np.concatenate([found.variant, missing]),
        )
        until = int(np.searchsorted(self._needed, end - self._begin)) + AHEAD
        blocks = self._blocks[self._wanted : until]
        self._at, self._wanted = end, max(self._wanted, until)
        return crops, blocks
