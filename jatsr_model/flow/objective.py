"""One training or validation evaluation: draw, interpolate, predict, compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from jatsr_model.chance import Chance
from jatsr_model.dit.conditions import Conditions
from jatsr_model.dit.recipe import Prediction
from jatsr_model.flow.path import interpolate, target, to_data
from jatsr_model.flow.times import TimeLaw, sample
from jatsr_model.losses import Guess, LossSum
from jatsr_model.losses.total import MAIN
from shards.errors import ConfigError


class Network(Protocol):
    """As ``DiT.forward``."""

    def __call__(
        self, noisy: Tensor, t: Tensor, given: Conditions, lengths: Tensor | None = None, /
    ) -> Tensor:
        """Predict."""
        ...


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Data of a batch.

    Args:
        data: ``[B, C, T]``, normalised.
        lengths: int64 ``[B]``, where samples end before T.
        low: low-res latents in the units of the data, for consistency; see ``Guess``.
        cutoff: ``[B]``; see ``Guess``.
    """

    data: Tensor
    lengths: Tensor | None = None
    low: Tensor | None = None
    cutoff: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of it.

    Args:
        loss: what is minimised.
        terms: ``[B]`` by name, gated, not weighted.
        t: ``[B]``.
        output: of the network.
        guess: what the losses saw.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    t: Tensor
    output: Tensor
    guess: Guess


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a network is trained for.

    Args:
        prediction: ``x``, ``v`` or ``envelope``.
        times: law of t.
        losses: and their weights.
        condition_dropout: probability of leaving out a condition of a sample; an ``envelope``
            always has its low-res latents.
        condition_noise: standard deviation of the noise on the normalised low-res latents.
        power: of a latent that is proportional to energy.
        cutoff: tell losses where low-res signals end; for latents whose channels are bands.

    Raises:
        ConfigError: ``levels`` and ``envelope`` without one another. Losses of the data with
            ``v``: data are ``z + (1 - t) v``, so that their gradients would fade where t lets them
            act.
    """

    prediction: Prediction
    times: TimeLaw
    losses: LossSum
    condition_dropout: float = 0.1
    condition_noise: float = 0.0
    power: int = 2
    cutoff: bool = False

    def __post_init__(self) -> None:
        """Check that losses and prediction fit together."""
        chosen, tells = self.losses.chosen, self.prediction == "envelope"
        if ("levels" in chosen) != tells or (tells and len(chosen) > 1):
            raise ConfigError(
                f"--loss {', '.join(chosen)}: networks that tell envelopes learn from "
                "'levels' alone, and no other network does",
                hint="leave out --loss",
            )
        of_data = [name for name in chosen if name not in MAIN]
        if self.prediction == "v" and of_data:
            raise ConfigError(
                f"--loss {', '.join(of_data)}: not with a network that predicts velocity",
                hint="leave it out, or train a network that predicts data (prediction x)",
            )

    def draw(
        self, truth: Truth, given: Conditions, chance: Chance
    ) -> tuple[Tensor, Tensor, Conditions]:
        """Noise, times and conditions of one training step.

        Noise on conditions comes before they are left out, so that null stays null.

        Args:
            truth: the batch.
            given: its conditions.
            chance: on the device of the data; the only source of it.
        """
        data = truth.data
        noise = chance.normal("noise", *data.shape[1:])
        t = sample(self.times, chance)
        if self.condition_noise:
            given = given.with_noise(self.condition_noise, chance)
        # also where nothing is dropped: every parameter has to take part in every step under DDP
        return noise, t, given.dropped(self.condition_dropout, chance)

    def evaluate(
        self, network: Network, truth: Truth, given: Conditions, noise: Tensor, t: Tensor
    ) -> Step:
        """Losses at given noises and times, as validation needs them.

        Args:
            network: predicts ``prediction``.
            truth: the batch.
            given: its conditions, dropped and noisy if they should be.
            noise: ``[B, C, T]``.
            t: float32 ``[B]``.
        """
        if self.prediction == "envelope":
            return self._envelope(network, truth, given)
        z = interpolate(noise, truth.data, t)
        output = network(z, t, given, truth.lengths)
        guess = Guess(
            output=output,
            target=target(self.prediction, noise, truth.data),
            data_hat=to_data(self.prediction, output, z, t),
            data=truth.data,
            low=truth.low,
            cutoff=truth.cutoff,
        )
        terms = self.losses.terms(guess, t, truth.lengths)
        return Step(loss=self.losses.total(terms), terms=terms, t=t, output=output, guess=guess)

    def step(self, network: Network, truth: Truth, given: Conditions, chance: Chance) -> Step:
        """Draw and evaluate: one training step up to the loss."""
        if self.prediction == "envelope":  # of low-res latents, which it therefore always has
            dropped = given.dropped(self.condition_dropout, chance)
            return self._envelope(network, truth, replace(dropped, has_low=given.has_low))
        noise, t, given = self.draw(truth, given, chance)
        return self.evaluate(network, truth, given, noise, t)

    def _envelope(self, network: Network, truth: Truth, given: Conditions) -> Step:
        """Of a network that knows neither noise nor its time."""
        none, t = torch.zeros_like(truth.data), truth.data.new_zeros(len(truth.data))
        level = network(none, t, given, truth.lengths)
        guess = Guess(
            output=level,
            target=none,
            data_hat=none,
            data=truth.data,
            level=level,
            power=self.power,
            cutoff=given.cutoff if self.cutoff else None,
        )
        terms = self.losses.terms(guess, t, truth.lengths)
        return Step(loss=self.losses.total(terms), terms=terms, t=t, output=level, guess=guess)

    def without_dropout(self) -> Objective:
        """The same, with all conditions as they are given."""
        return replace(self, condition_dropout=0.0, condition_noise=0.0)
