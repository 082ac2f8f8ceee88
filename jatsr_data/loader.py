"""Batches for one rank of a world, in the order of the epoch."""

from __future__ import annotations

import math
import multiprocessing
import operator
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch

from jatsr_data.ahead import ahead
from jatsr_data.batch import Batch, Part, merged
from jatsr_data.dataset import LatentDataset
from jatsr_data.options import whole
from jatsr_data.parts import PartReader, Request
from jatsr_data.state import LoaderState
from jatsr_data.workers import Inline, Workers
from shards.errors import ConfigError, FormatError, JatsrError

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
        size = whole("global_batch_size", global_batch_size, 1)
        world = range(whole("world_size", world_size, 1))
        if whole("rank", rank, 0) not in world:
            raise ConfigError(f"rank={rank}: expected a number below world_size={world_size}")
        workers = whole("num_workers", num_workers, 0)
        _expect_sizes(dataset, size, len(world), workers)
        if last not in ("drop", "pad"):
            raise ConfigError(f"last={last!r}: expected 'drop' or 'pad'")
        if start_method not in (None, *multiprocessing.get_all_start_methods()):
            raise ConfigError(f"start_method={start_method!r}: this system does not have it")
        if pin_memory and not torch.accelerator.is_available():
            raise ConfigError("pin_memory=True: there is no accelerator to copy to")
        self.dataset, self.global_batch_size = dataset, size
        self.rank, self.world_size, self.last = operator.index(rank), len(world), last
        self.epoch = 0
        self._cursor = 0
        self._resumed = False
        self._num_workers, self._parts = workers, max(workers, 1)
        self._prefetch = whole("prefetch", prefetch, 1)
        self._start_method, self._pin = start_method, pin_memory
        self._workers: Workers | Inline | None = None
        self._made: Generator[Batch, None, None] | None = None  # what is being iterated over
        if self._steps(0, 0) == 0:
            raise ConfigError(
                f"an epoch of {len(dataset)} crops has no batch of {size}",
                hint="lower global_batch_size, or use last='pad'",
            )
        if last == "pad":
            dataset.silence  # noqa: B018 - read now, and not in threads or children

    def __len__(self) -> int:
        """Batches of the current epoch, from its beginning."""
        return self._steps(self.epoch, 0)

    @property
    def cursor(self) -> int:
        """Crops of the epoch that have been given out, all ranks together."""
        return self._cursor

    def set_epoch(self, epoch: int) -> None:
        """Begin a certain epoch at the next ``iter()``."""
        self.epoch, self._cursor, self._resumed = whole("epoch", epoch, 0), 0, False

    def __iter__(self) -> Iterator[Batch]:
        if self._made is not None:
            self._made.close()
        if not self._resumed:
            self._cursor = 0
        self._resumed = False
        steps = self._steps(self.epoch, self._cursor)
        made = ahead(self._batches(self._started(), steps), self._prefetch, self._give_up)
        self._made = made
        try:
            for batch in made:
                self._cursor += self.global_batch_size
                yield batch
            if self._made is not made:
                raise ConfigError(
                    "another iteration over this loader was begun meanwhile",
                    hint="use one LatentLoader for each of them",
                )
        finally:
            made.close()
        self.set_epoch(self.epoch + 1)

    def close(self) -> None:
        """End the worker processes; the next ``iter()`` starts others."""
        if self._made is not None:
            self._made.close()
        if self._workers is not None:
            self._workers.close()
        self._made = self._workers = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": None, "_workers": None}

    def _give_up(self) -> None:
        """Leave what is being read alone, which may wait for a server for minutes."""
        if isinstance(self._workers, Workers):
            self._workers.close()
        self._workers = None

    def _batches(self, workers: Workers | Inline, steps: int) -> Iterator[Batch]:
        """The next batches; workers are asked for one more than is waited for."""
        epoch, size = self.epoch, self.global_batch_size
        positions = range(self._cursor, self._cursor + steps * size, size)
        try:
            for first in positions[:1]:
                self._ask(workers, epoch, first)
            for first in positions:
                if first + size in positions:
                    self._ask(workers, epoch, first + size)
                parts = [workers.answer(worker) for worker in range(self._parts)]
                yield merged(parts, self._slots(parts, first), pin=self._pin)
        except JatsrError:
            self._give_up()
            raise

    def _started(self) -> Workers | Inline:
        """The workers, without what an earlier iteration has asked for and not fetched."""
        if self._workers is not None and self._workers.pid != os.getpid():
            self._workers = None  # the parent's, from which this process was forked
        if self._workers is not None and not self._workers.forget():
            self.close()
        if self._workers is None:
            reader = PartReader(self.dataset, self.world_size * self._parts)
            if self._num_workers:
                self._workers = Workers(reader, self._num_workers, self._start_method)
            else:
                self._workers = Inline(reader)
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
        crops = len(self.dataset.epoch(state.epoch))
        if state.cursor > crops + self.global_batch_size:
            raise FormatError(f"loader state: cursor {state.cursor} in an epoch of {crops} crops")
        self.epoch, self._cursor, self._resumed = state.epoch, state.cursor, True

    def _state(self, epoch: int, cursor: int) -> LoaderState:
        dataset = self.dataset
        return LoaderState(dataset.seed, epoch, cursor, dataset.content, dict(dataset.reading))


def _expect_sizes(dataset: LatentDataset, batch: int, world_size: int, workers: int) -> None:
    if batch % world_size:
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
