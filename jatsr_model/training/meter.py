"""What happened since the last line of the log. Kept on the device until it is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from jatsr_data import Batch
from jatsr_model.training.step import Outcome
from jatsr_model.training.world import World


class Meter:
    """Adds up losses, gradients, times.

    Args:
        world: of ranks; losses are means over all of them.
        audio_seconds: of a step, all ranks together.
    """

    def __init__(self, world: World, audio_seconds: float) -> None:
        self._world, self._audio = world, audio_seconds
        self._sums: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Begin a new line."""
        self._sums, self._steps, self._waited = {}, 0, 0.0
        self._began = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside does not count as time of steps."""
        before = time.monotonic()
        yield
        self._began += time.monotonic() - before

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; the time until it is there counts as waiting for data."""
        before = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - before
        return batch

    def add(self, outcome: Outcome) -> None:
        """Count a step; of one that was left out only that it was."""
        values = {"loss": outcome.loss, **outcome.terms, "norm": outcome.norm}
        taken = outcome.finite > 0
        for name, value in values.items():
            value = value.detach().where(taken, 0)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        count = self._sums.get("taken")
        self._sums["taken"] = outcome.finite if count is None else count + outcome.finite
        self._steps += 1

    def read(self) -> dict[str, float]:
        """Everything by name, and begin anew. Waits for the device; all ranks have to ask.

        Returns:
            means of ``loss``, of each loss by its name and of ``norm``; ``left_out``, how many
            steps were not finite; ``seconds`` per step; ``audio_hours_per_hour``;
            ``data_wait``, the share of the time in which this rank waited for data.
        """
        names = list(self._sums)
        values = torch.stack([self._sums[name].double() for name in names]).cpu()
        found = dict(zip(names, (self._world.sum(values) / self._world.size).tolist(), strict=True))
        taken = found.pop("taken")
        found = {name: value / taken if taken else float("nan") for name, value in found.items()}
        wall = max(time.monotonic() - self._began, 1e-9)
        found |= {
            "left_out": self._steps - taken,
            "seconds": wall / self._steps,
            "audio_hours_per_hour": self._steps * self._audio / wall,
            "data_wait": self._waited / wall,
        }
        self.restart()
        return found
