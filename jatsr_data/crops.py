"""Which crops of which excerpts an epoch has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_data.draws import below, draws
from shards.envelope import SLOT_FRAMES


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops as columns.

    Attributes:
        sample: int64, position of the excerpt in the index.
        start: int64, first frame in the excerpt.
        variant: int64, low-res variant.
    """

    sample: NDArray[np.int64]
    start: NDArray[np.int64]
    variant: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, which: Any) -> Crops:
        """Some of them: a slice, a mask or positions."""
        return Crops(self.sample[which], self.start[which], self.variant[which])


@dataclass(frozen=True)
class CropRule:
    """How excerpts are cut.

    An epoch has for every excerpt a phase; its crops are ``phase + k * frames`` for all k that
    fit. The phase lies on the grid of the stored envelopes' slots (16 frames), where a crop's
    roll-off is recovered best. An excerpt shorter than a crop is one crop, to be padded.

    Attributes:
        frames: of a crop.
        variants: of the dataset.
        variant: the one to use; "random" draws one per crop, "all" takes each crop with each.
        shuffle: False: phase 0 and epoch 0's variants in every epoch.
    """

    frames: int
    variants: int
    variant: int | str
    shuffle: bool

    def phases(
        self, seed: int, epoch: int, ids: NDArray[np.uint64], frames: NDArray[Any], copy: Any
    ) -> NDArray[np.int64]:
        """First frame of the first crop.

        Args:
            seed: of the dataset's order.
            epoch: from 0.
            ids: what identifies each excerpt.
            frames: of each excerpt.
            copy: int64, which repetition of the excerpt in this epoch.
        """
        if not self.shuffle:
            return np.zeros(len(ids), np.int64)
        room = np.clip(frames.astype(np.int64) - self.frames, 0, self.frames - 1)
        numbers = draws(seed, epoch, "phase", ids, copy)
        return below(numbers, room // SLOT_FRAMES + 1) * SLOT_FRAMES

    def counts(self, frames: NDArray[Any], phases: NDArray[np.int64]) -> NDArray[np.int64]:
        """Crops of each excerpt, times variants where all are used."""
        whole = np.maximum((frames.astype(np.int64) - phases) // self.frames, 1)
        counts: NDArray[np.int64] = whole * self._each
        return counts

    def expected(self, frames: NDArray[Any]) -> NDArray[np.float64]:
        """Crops of excerpts on average over the phases, for one variant."""
        count, rest = np.divmod(frames.astype(np.float64), self.frames)
        room = np.clip(frames - self.frames, 0, self.frames - 1)
        mean = count - np.clip(room - rest, 0, None) / (room + 1.0)
        crops: NDArray[np.float64] = np.maximum(mean, 1.0)
        return crops

    @property
    def _each(self) -> int:
        return self.variants if self.variant == "all" else 1

    def cut(
        self,
        seed: int,
        epoch: int,
        ids: NDArray[np.uint64],
        copy: NDArray[np.int64],
        phases: NDArray[np.int64],
        number: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and variant of crops, given the number of each within its excerpt."""
        place = number // self._each
        starts = phases + place * self.frames
        if self.variant == "all":
            return starts, number % self.variants
        if self.variant == "random":
            drawn = draws(seed, epoch if self.shuffle else 0, "variant", ids, copy, place)
            return starts, below(drawn, np.full(len(ids), self.variants))
        return starts, np.full(len(ids), self.variant, np.int64)
