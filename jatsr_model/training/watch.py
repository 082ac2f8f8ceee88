"""Steps whose gradient was not finite: left out, counted, and the end if there are too many."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from jatsr_data import Batch
from jatsr_model.training.world import World
from shards.errors import JatsrError
from shards.files import pretty_json, write_atomically


class Diverged(JatsrError):
    """Too many steps in a row were not finite."""


class Flag:
    """A number of the device on its way to the host; nobody waits but who asks for it.

    Args:
        value: scalar; what is queued after this call is not waited for.
    """

    def __init__(self, value: Tensor) -> None:
        self._event = None
        self._value = value
        if value.device.type == "cuda":
            self._value = torch.empty_like(value, device="cpu", pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.Event("cuda")
            self._event.record()

    def __bool__(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._value)


class Watch:
    """Looks at each step when the next one is under way, so that nobody waits for it.

    Args:
        folder: where a batch that ends the training is written.
        world: of ranks, which all see the same.
        limit: steps in a row that end it.
        left_out: how many there were before.
        in_row: how many of them just now.
    """

    def __init__(
        self, folder: Path, world: World, limit: int, left_out: int = 0, in_row: int = 0
    ) -> None:
        self._folder, self._world, self._limit = folder, world, limit
        self.left_out, self.in_row = left_out, in_row
        self._held: tuple[int, Flag, Batch] | None = None

    def look(self, step: int, finite: Tensor, batch: Batch) -> None:
        """Remember a step and judge the one before.

        Raises:
            Diverged: it was one too many.
        """
        before, self._held = self._held, (step, Flag(finite), batch)
        if before is not None:
            self._judge(*before)

    def flush(self) -> None:
        """Judge the last step, too.

        Raises:
            Diverged: it was one too many.
        """
        before, self._held = self._held, None
        if before is not None:
            self._judge(*before)

    def _judge(self, step: int, finite: Flag, batch: Batch) -> None:
        if finite:
            self.in_row = 0
            return
        self.left_out += 1
        self.in_row += 1
        if self.in_row < self._limit:
            return
        where = self._write(step, batch)
        raise Diverged(
            f"{self.in_row} steps in a row had gradients that are not finite, the last of them "
            f"step {step}; its batch is in {where}",
            hint="continue from the last checkpoint with a lower rate: --resume --lr ... "
            "--accept-changes; jatsr verify says whether the dataset is sound",
        )

    def _write(self, step: int, batch: Batch) -> Path:
        path = self._folder / f"step-{step:08d}-rank-{self._world.rank}.safetensors"
        columns = {k: v for k, v in vars(batch).items() if isinstance(v, Tensor) and k != "mask"}
        write_atomically(path, save({k: v.contiguous() for k, v in columns.items()}))
        said = {"key": list(batch.key), "caption": list(batch.caption)}
        write_atomically(path.with_suffix(".json"), pretty_json(said))
        return path
