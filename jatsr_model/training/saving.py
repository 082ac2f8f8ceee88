"""Checkpoints of a training: what is in them, and when they go."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from jatsr_model.model_folder import Card
from jatsr_model.training.checkpoints import Checkpoint, mark, write_checkpoint
from jatsr_model.training.ema import Ema
from jatsr_model.training.gather import FullState, full_state, load_full_state
from jatsr_model.training.retention import prune
from jatsr_model.training.run_folder import resumable
from jatsr_model.training.settings import Runtime
from jatsr_model.training.standing import Standing
from jatsr_model.training.world import World


@dataclass
class Saving:
    """Writes checkpoints, and keeps the right ones.

    Args:
        folder: of checkpoints.
        network: bare or sharded.
        ema: average of its weights: the model of a checkpoint.
        optimizer: of its weights.
        card: of the model.
        runtime: how many are kept.
        world: of ranks; the main one writes.
        measure: identity of what is validated.
    """

    folder: Path
    network: nn.Module
    ema: Ema
    optimizer: Optimizer
    card: Card
    runtime: Runtime
    world: World
    measure: str
    saved: int = -1  # step of the newest checkpoint
    _began: float = field(default_factory=time.monotonic)

    def __call__(self, standing: Standing, batches: Mapping[str, Any]) -> None:
        """Write a checkpoint of this step; all ranks have to call.

        Args:
            standing: of the training; its ``seconds`` are brought up to date.
            batches: state of what it reads.

        Raises:
            EnvironmentFailure: the disk is full; older checkpoints are as they were.
        """
        now = time.monotonic()
        standing.seconds, self._began = standing.seconds + now - self._began, now
        state = full_state(self.network, self.ema, self.optimizer, self.world)
        if self.world.is_main:
            facts = {
                "standing": standing.to_json(),
                "batches": dict(batches),
                "machine": machine_of(self.runtime, self.world),
                "measure": self.measure,
                "hours": standing.seconds / 3600,
            }
            with resumable(self.folder.parent, f"saving in {self.folder}"):
                self._write(standing, state, facts)
        self.saved = standing.step
        self.world.barrier()  # nobody goes on before it is there

    def _write(self, standing: Standing, state: FullState, facts: Mapping[str, Any]) -> None:
        write_checkpoint(
            self.folder,
            standing.step,
            network_state=state.ema,
            card=self.card,
            tensors=state.rest,
            facts=facts,
        )
        if standing.best_step == standing.step:
            mark(self.folder, "best", standing.step)
        prune(self.folder, self.runtime.keep, self.runtime.keep_hours)

    def load(self, checkpoint: Checkpoint) -> Standing:
        """Put a checkpoint into network, average and optimizer; all ranks have to call.

        Raises:
            ModelError: it is of another network.
        """
        state = FullState(checkpoint.network_state, checkpoint.tensors)
        load_full_state(state, self.network, self.ema, self.optimizer, self.world)
        self.saved = checkpoint.step
        standing = Standing.from_json(checkpoint.facts["standing"])
        if checkpoint.facts["measure"] != self.measure:  # what was best is not to be compared
            standing.best, standing.best_step = math.inf, -1
        return standing


def machine_of(runtime: Runtime, world: World) -> dict[str, Any]:
    """What decides, beside the recipe, which numbers generators give; JSON-ready."""
    return {
        "device": world.device.type,
        "processes": world.size,
        "micro_batch": runtime.micro_batch,
        "compile": runtime.compile,
    }
