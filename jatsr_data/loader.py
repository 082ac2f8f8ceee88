"""Batches for one rank of a world, in the order of the epoch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from jatsr_data.ahead import ahead
from jatsr_data.batch import Batch, Part, merged
from jatsr_data.dataset import LatentDataset
from jatsr_data.parts import PartReader, Request
from jatsr_data.state import LoaderState
from jatsr_data.workers import Inline, Workers
from shards.errors import ConfigError, JatsrError

Last = Literal["drop", "pad"]


class LatentLoader:
    """Iterates over the batches of an epoch, then over those of the next one.

    A global batch is the next ``global_batch_size`` positions of the epoch; a rank gets those
    that leave its number when divided by ``world_size``. So all ranks together see the same
    batches whatever their number, and each reads only its share of the shards.

    ``iter()`` begins the current epoch, or continues where ``load_state_dict`` said. When an
    epoch is over, the next ``iter()`` is the next epoch.

    Args:
        dataset: what is read.
        global_batch_size: crops of a batch, all ranks together; a multiple of ``world_size``.
        rank: of this process.
        world_size: number of ranks.
        num_workers: processes that read; 0 reads in a thread of this one.
        last: what becomes of the crops that do not fill a batch: "drop" leaves them out, "pad"
            fills the batch up with silence whose ``frames`` are 0. All ranks take equally many
            steps either way.
        prefetch: batches that are made ahead, in a thread of this process.
        start_method: of worker processes: "fork", "spawn", "forkserver"; None for the system's.
        pin_memory: batches in pinned memory.

    Raises:
        ConfigError: sizes that do not fit, or an epoch without a single batch.
    """

    def __init__(  # noqa: PLR0913 - the sizes that a training script has at hand
        self,
        dataset: LatentDataset,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        *,
        last: Last = "drop",
        prefetch: int = 2,
        start_method: str | None = None,
        pin_memory: bool = False,
    ) -> None:
        _expect_sizes(dataset, global_batch_size, rank, world_size, num_workers)
        if last not in ("drop", "pad"):
            raise ConfigError(f"last={last!r}: expected 'drop' or 'pad'")
        self.dataset, self.global_batch_size = dataset, global_batch_size
        self.rank, self.world_size, self.last = rank, world_size, last
        self.epoch = 0
        self._cursor = 0
        self._resumed = False
        self._num_workers, self._parts = num_workers, max(num_workers, 1)
        self._prefetch, self._start_method, self._pin = prefetch, start_method, pin_memory
        self._workers: Workers | Inline | None = None
        if self._steps(self.epoch, 0) == 0:
            raise ConfigError(
                f"an epoch of {len(dataset)} crops has no batch of {global_batch_size}",
                hint="lower global_batch_size, or use last='pad'",
            )

    def __len__(self) -> int:
        """Batches of the current epoch, from its beginning."""
        return self._steps(self.epoch, 0)

    @property
    def cursor(self) -> int:
        """Crops of the epoch that have been given out, all ranks together."""
        return self._cursor

    def set_epoch(self, epoch: int) -> None:
        """Begin a certain epoch at the next ``iter()``."""
        self.epoch, self._cursor, self._resumed = epoch, 0, False

    def __iter__(self) -> Iterator[Batch]:
        if not self._resumed:
            self._cursor = 0
        self._resumed = False
        steps = self._steps(self.epoch, self._cursor)
        made = self._batches(self._started(), steps)
        with contextlib.closing(ahead(made, self._prefetch)) as batches:
            for batch in batches:
                self._cursor += self.global_batch_size
                yield batch
        self.set_epoch(self.epoch + 1)

    def close(self) -> None:
        """End the worker processes; the next ``iter()`` starts others."""
        if self._workers is not None:
            self._workers.close()
        self._workers = None

    def _batches(self, workers: Workers | Inline, steps: int) -> Iterator[Batch]:
        """The next batches; workers are asked for one more than is waited for."""
        epoch, size = self.epoch, self.global_batch_size
        positions = range(self._cursor, self._cursor + steps * size, size)
        for first in positions[:1]:
            self._ask(workers, epoch, first)
        for first, following in zip(positions, [*positions[1:], None], strict=True):
            if following is not None:
                self._ask(workers, epoch, following)
            try:
                parts = [workers.answer(worker) for worker in range(self._parts)]
            except JatsrError:
                self.close()
                raise
            yield merged(parts, self._slots(parts, first), pin=self._pin)

    def _started(self) -> Workers | Inline:
        """The workers, without what an earlier iteration has asked for and not fetched."""
        if self._workers is None:
            reader = PartReader(self.dataset, self.world_size * self._parts)
            if self._num_workers:
                self._workers = Workers(reader, self._num_workers, self._start_method)
            else:
                self._workers = Inline(reader)
        self._workers.forget()
        return self._workers

    def _ask(self, workers: Workers | Inline, epoch: int, first: int) -> None:
        parts = self.world_size * self._parts
        for worker in range(self._parts):
            part = self.rank + self.world_size * worker
            workers.ask(worker, Request(epoch, first, self.global_batch_size, part, parts))

    def _slots(self, parts: Sequence[Part], first: int) -> list[slice]:
        """Where in the batch of this rank, which begins at a position, its parts belong."""
        base = -((self.rank - first) // self.world_size)
        return [
            slice((part.position - self.rank) // self.world_size - base, None, self._parts)
            for part in parts
        ]

    def _steps(self, epoch: int, cursor: int) -> int:
        left = max(len(self.dataset.epoch(epoch)) - cursor, 0)
        size = self.global_batch_size
        return left // size if self.last == "drop" else -(-left // size)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, after the last batch that it gave out: a small JSON document.

        It is the same on all ranks and can be loaded with another world size, number of workers
        and batch size.
        """
        epoch, cursor = self.epoch, self._cursor
        if self._steps(epoch, cursor) == 0:
            epoch, cursor = epoch + 1, 0
        return self._state(epoch, cursor).to_json()

    def load_state_dict(self, document: Mapping[str, Any]) -> None:
        """Continue where another loader stood.

        Raises:
            FormatError: this is no state.
            ConfigError: it belongs to another dataset or way of reading.
        """
        state = LoaderState.from_json(document)
        state.expect_same_order(self._state(0, 0))
        self.epoch, self._cursor, self._resumed = state.epoch, state.cursor, True

    def _state(self, epoch: int, cursor: int) -> LoaderState:
        dataset = self.dataset
        return LoaderState(dataset.seed, epoch, cursor, dataset.content, dict(dataset.reading))


def _expect_sizes(
    dataset: LatentDataset, batch: int, rank: int, world_size: int, workers: int
) -> None:
    if world_size < 1 or not 0 <= rank < world_size:
        raise ConfigError(f"rank={rank}, world_size={world_size}: expected 0 <= rank < world_size")
    if workers < 0:
        raise ConfigError(f"num_workers={workers}: expected 0 or more")
    if batch < 1 or batch % world_size:
        raise ConfigError(
            f"global_batch_size={batch} is not a multiple of world_size={world_size}",
            hint="it is the batch of all ranks together",
        )
    lanes, parts = dataset.options.lanes, world_size * max(workers, 1)
    if lanes % parts:
        fitting = ", ".join(str(n) for n in range(1, lanes + 1) if lanes % n == 0)
        raise ConfigError(
            f"world_size={world_size} x num_workers={workers} does not divide the {lanes} lanes",
            hint=f"their product may be {fitting}; or choose other lanes for a new training: "
            f"ReadOptions(lanes={math.lcm(lanes, parts)})",
        )
