"""Losses on crops, times and noises that are always the same, so that curves can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jatsr_data import Batch
from jatsr_model.chance import Chance
from jatsr_model.dit import Conditions
from jatsr_model.flow import Objective
from jatsr_model.flow.objective import Truth
from jatsr_model.losses import gradient_ratios
from jatsr_model.training.feed import Feed, chance_of
from jatsr_model.training.settings import Precision
from jatsr_model.training.step import autocast
from jatsr_model.training.world import World

SEED = 0x5EED  # of times and noises, whatever the seed of the training
BUCKETS = 5
GOLDEN = 0.6180339887498949


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Validates a network on some crops.

    Every crop is judged once in each fifth of [0, 1], at the share ``frac((k + 1/2) golden)`` of it
    for crop k of all, so that times fill the fifth evenly however many crops there are; and each
    time with noise of its own. Conditions are given as they are. Networks that tell envelopes know
    no time; they are judged without the roll-off of the target, and with it.

    Args:
        batches: of this rank, equally many on all; crop j of batch b is crop
            ``(b * B + j) * world + rank`` of all.
        crops: how many of all count, from the first; ranks hold more where they do not divide.
        first: the first of all crops, the same on all ranks, where gradients are compared.
        feed: makes data and conditions.
        objective: as in training.
        world: of ranks.
        precision: of the network.
    """

    batches: tuple[Batch, ...]
    crops: int
    first: Batch
    feed: Feed
    objective: Objective
    world: World
    precision: Precision

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Validate.

        Args:
            network: left in evaluation mode.

        Returns:
            ``Val/Loss``, the weighted sum that is minimised in training; ``Val/MSE`` of the data
            that are predicted, whatever the network predicts; and the latter by time, as
            ``Val/MSE_t0.1`` (mean over t from 0 to 0.2), ``Val/MSE_t0.3``, ... Of a network that
            tells envelopes ``Val/Loss`` without the roll-off of the target, ``Val/LossTold`` with.
        """
        network.eval()
        tells = self.objective.prediction == "envelope"
        passes = 2 if tells else BUCKETS
        sums = torch.zeros(3, passes, dtype=torch.float64)  # of losses, of squares; counts
        for number, batch in enumerate(self.batches):
            truth, given = self.feed(batch)
            places = self._places(number, len(batch))
            counts = (batch.frames > 0) & (torch.tensor(places) < self.crops)
            weight = counts.repeat_interleave(batch.hr.shape[1]).double()
            asked = [given.untold(), given] if tells else [given] * passes
            for bucket, conditions in enumerate(asked):
                chance = chance_of(batch, SEED, bucket, places, self.feed.device)
                values = self._judge(network, truth, conditions, chance)
                sums[:, bucket] += values @ weight
        losses, squares, counts = self.world.sum(sums)
        if tells:  # no data
            untold, told = (losses / counts).tolist()
            return {"Val/Loss": untold, "Val/LossTold": told}
        found = {"Val/Loss": float(losses.sum() / counts.sum())}
        found["Val/MSE"] = float(squares.sum() / counts.sum())
        for bucket, mean in enumerate((squares / counts).tolist()):
            found[f"Val/MSE_t{(bucket + 0.5) / BUCKETS:.1f}"] = mean
        return found

    def _places(self, number: int, size: int) -> range:
        """Among all crops, of those of a batch."""
        first = number * size * self.world.size + self.world.rank
        return range(first, first + size * self.world.size, self.world.size)

    def _judge(self, network: nn.Module, truth: Truth, given: Conditions, chance: Chance) -> Tensor:
        """Loss and square error of the data of every sample, and ones: ``[3, B]`` on the CPU.

        The step of ``chance`` is the fifth of [0, 1] in which t lies.
        """
        noise = chance.normal("noise", *truth.data.shape[1:])
        k = torch.tensor(chance.places, dtype=torch.float64)
        t = ((chance.step + torch.frac((k + 0.5) * GOLDEN)) / BUCKETS).float()
        with autocast(self.feed.device, self.precision):
            step = self.objective.evaluate(network, truth, given, noise, t.to(self.feed.device))
        weights = self.objective.losses.weights
        loss = torch.stack([weights[name] * term for name, term in step.terms.items()]).sum(0)
        guess = step.guess.in_float32(truth.lengths)
        square = (guess.data_hat - guess.data).square().flatten(1).mean(1) * guess.stretch
        return torch.stack([loss, square, torch.ones_like(loss)]).double().cpu()

    def pulls(self, network: nn.Module) -> dict[str, float]:
        """How hard every loss pulls against the main one, ``Gradient/<loss>``; see ``Pull``."""
        batch = self.first
        truth, given = self.feed(batch)
        chance = chance_of(batch, SEED, BUCKETS, range(len(batch)), self.feed.device)
        noise, t, given = self.objective.without_dropout().draw(truth, given, chance)

        def frozen(*inputs: Any) -> Tensor:
            with torch.no_grad(), autocast(self.feed.device, self.precision):
                output: Tensor = network(*inputs)
            return output.float().requires_grad_()

        step = self.objective.evaluate(frozen, truth, given, noise, t)
        ratios = gradient_ratios(self.objective.losses, step.output, step.guess, t, truth.lengths)
        return {f"Gradient/{name}": pull.ratio for name, pull in ratios.items()}
