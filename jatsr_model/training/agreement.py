"""A flag that one rank raises and all see at the same step."""

from __future__ import annotations

import torch
import torch.distributed as dist

from jatsr_model.training.world import World, waiting


class Agreement:
    """Ranks agree without waiting for each other.

    In every step all of them get what they put a step before, which has long arrived::

        if agreement.get():
            break
        agreement.put(interrupted)
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._said = torch.zeros(1, dtype=torch.int32)
        self._work: dist.Work | None = None

    def put(self, flag: bool) -> None:
        """Say something and go on. All ranks call it, in the same order as ``get``."""
        self.get()  # one after the other
        self._said = torch.tensor([flag], dtype=torch.int32)
        if self._world.size > 1:
            with waiting(self._world):
                self._work = dist.all_reduce(self._said, dist.ReduceOp.MAX, async_op=True)

    def get(self) -> bool:
        """Whether any rank said so at the last ``put``; False before the first.

        Raises:
            EnvironmentFailure: another rank is gone.
        """
        if self._work is not None:
            with waiting(self._world):
                self._work.wait()
            self._work = None
        return bool(self._said)
