"""The order of an epoch: a pure function of seed and epoch, of which a world only takes slices.

The excerpts are dealt, once and for all epochs, into a fixed number of lanes of nearly equal
length, each a run of the dataset. Position p of an epoch is entry ``p // lanes`` of lane
``p % lanes``; so whoever takes every n-th position, n a divisor of the number of lanes, always
reads the same lanes and no others. Inside a lane the order goes through blocks (runs of samples
that are fetched together) in a new permutation each epoch, and mixes the crops of ``window``
neighbouring blocks of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_data.crops import CropRule, Crops
from jatsr_data.draws import draws, uniform
from jatsr_data.mixture import Repeats

Ints = NDArray[np.int64]
_SINGLE = 3  # excerpts at the end of each run that are blocks of their own


@dataclass(frozen=True, eq=False)
class Deal:
    """How excerpts are dealt into lanes, and lanes into blocks.

    Attributes:
        run: int64 of each excerpt, never falling: the dataset in as many runs as there are lanes.
        lane_of: int64, the lane of each run. Neighbouring lanes, which meet in small batches, are
            runs that lie apart.
        block: int64 of each excerpt, never falling, from 0.
    """

    run: Ints
    lane_of: Ints
    block: Ints

    @property
    def lanes(self) -> int:
        """Their number."""
        return len(self.lane_of)

    @staticmethod
    def of(
        shard: NDArray[Any],
        offset: Ints,
        size: Ints,
        weight: NDArray[np.float64],
        lanes: int,
        block_bytes: int,
    ) -> Deal:
        """Deal excerpts that are sorted by shard and offset.

        Args:
            shard: number of each excerpt's shard.
            offset: first byte in the shard.
            size: bytes.
            weight: what each adds to the length of its lane.
            lanes: their number.
            block_bytes: a block begins no excerpt beyond so many bytes.
        """
        middle = np.cumsum(weight) - weight / 2
        total = float(weight.sum()) or 1.0
        run = np.minimum((middle / total * lanes).astype(np.int64), lanes - 1)
        breaks = np.ones(len(shard), bool)
        breaks[1:] = (np.diff(shard) != 0) | (np.diff(run) != 0)
        breaks[1:] |= offset[1:] != offset[:-1] + size[:-1]
        within = offset - offset[np.flatnonzero(breaks)][np.cumsum(breaks) - 1]
        breaks[1:] |= np.diff(within // block_bytes) > 0
        # Those that other lanes may be given are fetched one by one.
        left = np.searchsorted(run, run, side="right") - np.arange(len(run))
        breaks |= left <= _SINGLE
        lane_of = np.argsort(np.argsort(draws(0, 0, "lanes", np.arange(lanes)), kind="stable"))
        return Deal(run, lane_of, np.cumsum(breaks) - 1)


@dataclass(frozen=True, eq=False)
class Epoch:
    """The order of one epoch.

    Attributes:
        deal: lanes and blocks.
        rule: how excerpts are cut.
        ids: uint64, what identifies each excerpt in draws.
        frames: of each excerpt.
        repeats: which excerpts take part, and how often.
        seed: of the order.
        number: of the epoch.
        window: how many blocks of a lane are mixed.
    """

    deal: Deal
    rule: CropRule
    ids: NDArray[np.uint64]
    frames: NDArray[Any]
    repeats: Repeats
    seed: int
    number: int
    window: int

    @cached_property
    def _entries(self) -> tuple[Ints, Ints]:
        """Excerpts in dataset order, as often as they are taken: which, and which time."""
        return self.repeats.draw(self.seed, self.number, self.ids)

    @cached_property
    def _phases(self) -> Ints:
        sample, copy = self._entries
        return self.rule.phases(self.seed, self.number, self.ids[sample], self.frames[sample], copy)

    @cached_property
    def _ends(self) -> Ints:
        """Number of the first crop after each entry's."""
        return np.cumsum(self.rule.counts(self.frames[self._entries[0]], self._phases))

    @cached_property
    def _starts(self) -> Ints:
        """Number of each entry's first crop, and the number of crops."""
        return np.concatenate([[0], self._ends])

    def __len__(self) -> int:
        """Crops of the epoch."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def lane(self, lane: int) -> Crops:
        """The crops of a lane in order: ``len(self) // lanes`` of them, or one more."""
        numbers = self._numbers(lane)
        entry = np.searchsorted(self._ends, numbers, side="right")
        if self.rule.shuffle:
            order = self._order(numbers, entry)
            numbers, entry = numbers[order], entry[order]
        return self._crops(numbers, entry)

    def part(self, part: int, parts: int) -> Crops:
        """The crops at positions ``part``, ``part + parts``, ... of the epoch.

        Args:
            part: in ``[0, parts)``.
            parts: a divisor of the number of lanes.
        """
        lanes = [self.lane(lane) for lane in range(part, self.deal.lanes, parts)]
        columns = [
            _interleaved([getattr(crops, name) for crops in lanes])
            for name in ("sample", "start", "variant")
        ]
        return Crops(*columns)

    @cached_property
    def _bounds(self) -> Ints:
        """Where the crops of each run begin: ``[lanes + 1]``."""
        run = self.deal.run[self._entries[0]]
        first_entry = np.searchsorted(run, np.arange(self.deal.lanes + 1))
        return self._starts[first_entry]

    def _numbers(self, lane: int) -> Ints:
        """The crops of a lane, numbered through the dataset.

        How many crops excerpts have changes a little with their phases. What a run has too many
        is given, from its end, to those that have too few.
        """
        lanes, bounds = self.deal.lanes, self._bounds
        length = np.diff(bounds)
        target = len(self) // lanes + (self.deal.lane_of < len(self) % lanes)
        run = int(np.flatnonzero(self.deal.lane_of == lane)[0])
        own = np.arange(bounds[run], bounds[run] + min(length[run], target[run]))
        missing = np.maximum(target - length, 0)
        if not missing[run]:
            return own
        spare = [np.arange(bounds[k] + target[k], bounds[k + 1]) for k in range(lanes)]
        before = int(missing[:run].sum())
        return np.concatenate([own, np.concatenate(spare)[before : before + missing[run]]])

    def _order(self, numbers: Ints, entry: Ints) -> Ints:
        """The order of crops: blocks by a draw, then crops over the window after their block."""
        blocks, block = np.unique(self.deal.block[self._entries[0][entry]], return_inverse=True)
        rank = np.empty(len(blocks), np.int64)
        drawn = draws(self.seed, self.number, "block", blocks)
        rank[np.argsort(drawn, kind="stable")] = np.arange(len(blocks))
        later = uniform(draws(self.seed, self.number, "place", numbers)) * self.window
        return np.argsort(rank[block] + later, kind="stable")

    def _crops(self, numbers: Ints, entry: Ints) -> Crops:
        sample, copy = self._entries
        place = numbers - self._starts[entry]
        chosen = sample[entry]
        starts, variants = self.rule.cut(
            self.seed, self.number, self.ids[chosen], copy[entry], self._phases[entry], place
        )
        return Crops(chosen, starts, variants)


def _interleaved(columns: list[Ints]) -> Ints:
    """First elements, then second ones, ...; later columns may be one shorter."""
    merged = np.empty(sum(map(len, columns)), np.int64)
    for place, column in enumerate(columns):
        merged[place :: len(columns)] = column
    return merged
