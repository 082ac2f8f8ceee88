"""One step of the optimizer. Nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jatsr_data import Batch
from jatsr_data.draws import draws
from jatsr_model.chance import Chance
from jatsr_model.flow import Objective
from jatsr_model.training.augment import NO_CHANGE, Augment
from jatsr_model.training.ema import Ema
from jatsr_model.training.feed import Feed, chance_of
from jatsr_model.training.optimizer import step_if_finite
from jatsr_model.training.settings import Recipe
from jatsr_model.training.world import World


class Outcome(NamedTuple):
    """What came of a step, still on the device.

    Args:
        loss: mean over the crops of this rank.
        terms: the same of every loss, gated, not weighted.
        norm: of the gradient before it was clipped, of all ranks.
        finite: 1 where the step was taken, 0 where it was left out.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    norm: Tensor
    finite: Tensor


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Takes steps.

    Args:
        network: as wrapped for several ranks.
        objective: what it is trained for.
        feed: makes data and conditions of batches.
        optimizer: of the parameters.
        rate: learning rate of a step.
        ema: average of the parameters.
        recipe: of the training.
        world: of ranks.
        micro: crops that are in memory at once.
        augment: changes batches before they are used.
    """

    network: nn.Module
    objective: Objective
    feed: Feed
    optimizer: Optimizer
    rate: Callable[[int], float]
    ema: Ema
    recipe: Recipe
    world: World
    micro: int
    augment: Augment = NO_CHANGE

    def __call__(self, step: int, batch: Batch) -> Outcome:
        """Take step number ``step``, from 0, on this rank's share of the global batch."""
        self._seed(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        losses, terms = self._gradients(step, batch)
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = self.world.whole(norm)
        nn.utils.clip_grads_with_norm_(parameters, self.recipe.clip, norm)
        finite = step_if_finite(self.optimizer, norm)
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(step)
        return Outcome(losses, terms, norm, finite)

    def _gradients(self, step: int, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Means of the losses over the batch; gradients are left in the parameters."""
        size = len(batch)
        total: dict[str, Tensor] = {}
        starts = range(0, size, self.micro)
        for start in starts:
            rows = range(start, min(start + self.micro, size))
            last = start == starts[-1]
            with nullcontext() if last else self.world.no_sync(self.network):
                for name, value in self._one(step, batch, rows, len(rows) / size).items():
                    total[name] = total[name] + value if name in total else value
        return total.pop(""), total

    def _one(self, step: int, batch: Batch, rows: range, share: float) -> dict[str, Tensor]:
        places = range(self.world.rank, self.world.size * len(batch), self.world.size)
        some = batch.rows(rows)
        device = self.feed.device
        mine = places[rows.start : rows.stop]
        chance = chance_of(some, self.recipe.seed, step, mine, device)
        some = self.augment(some, Chance(self.recipe.seed, step, mine))
        with autocast(device, self.recipe.precision):
            found = self.objective.step(self.network, *self.feed(some), chance)
        torch.autograd.backward(found.loss * share)
        means = {name: term.detach().mean() * share for name, term in found.terms.items()}
        return {"": found.loss.detach() * share, **means}

    def _seed(self, step: int) -> None:
        """Dropout draws from torch's own generators; they too depend on the step alone."""
        rank = torch.tensor([self.world.rank]).numpy()
        torch.manual_seed(int(draws(self.recipe.seed, step, "dropout", rank)[0] >> 1))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products in bf16, if so wished."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
