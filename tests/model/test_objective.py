"""One step of training up to the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_dit import OURS, awake, conditions, latents
from torch import Tensor

from jatsr_model.chance import Chance
from jatsr_model.dit import PRESETS, Conditions
from jatsr_model.flow import Objective, time_law
from jatsr_model.flow.objective import Truth
from jatsr_model.losses import AudioConsistency, LossSum, gradient_ratios, losses_for
from shards.errors import ConfigError


def objective(prediction: Any, **changes: Any) -> Objective:
    weights = changes.pop("weights", {"mse": 1.0})
    return Objective(
        prediction=prediction,
        times=time_law("uniform"),
        losses=LossSum(weights),
        **changes,
    )


@pytest.mark.parametrize("prediction", ["x", "v"])
def test_who_knows_the_answer_loses_nothing(prediction: str) -> None:
    data = latents(4, 12)

    def oracle(z: Tensor, t: Tensor, *_: object) -> Tensor:
        return data if prediction == "x" else (data - z) / (1 - t)[:, None, None]

    weights = {"mse": 1.0}
    if prediction == "x":
        weights |= {"frequency": 0.15, "multiscale": 0.15}
    step = objective(prediction, weights=weights).step(
        oracle, Truth(data=data), Conditions(low=data), Chance(0, 0, range(4))
    )
    assert step.loss.item() < 1e-6
    assert step.terms.keys() == weights.keys()


def test_nothing_else_is_left_to_chance() -> None:
    network = awake(OURS)
    truth, given = Truth(data=latents(3, 8)), conditions(OURS, 3, 8)
    goal = objective("x", condition_noise=0.05)
    losses = [
        goal.step(network, truth, given, Chance(seed, 0, range(3))).loss.item()
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_conditions_are_noisy_before_they_are_dropped() -> None:
    given = Conditions(low=torch.zeros(400, 1, 4))
    goal = objective("x", condition_noise=0.5, condition_dropout=0.25)
    truth = Truth(data=torch.zeros(400, 1, 4))
    noise, t, drawn = goal.draw(truth, given, Chance(0, 0, range(400)))
    assert drawn.low.std() == pytest.approx(0.5, rel=0.1)
    assert drawn.has_low is not None
    assert (~drawn.has_low).float().mean() == pytest.approx(0.25, abs=0.08)
    still = goal.without_dropout().draw(truth, given, Chance(0, 0, range(400)))[2]
    assert still.low is given.low
    assert still.has_low is not None
    assert still.has_low.all()
    assert t.shape == (400,)
    assert noise.std() == pytest.approx(1, rel=0.1)


def test_a_tiny_network_learns_and_its_losses_pull_as_weighted() -> None:
    torch.manual_seed(0)
    network = awake(OURS).train()
    data = latents(8, 16)
    truth, given = Truth(data=data), Conditions(low=data)  # the answer is given away
    goal = objective("x", weights={"mse": 1.0, "frequency": 0.15, "multiscale": 0.15})
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    history = []
    for number in range(40):
        step = goal.step(network, truth, given, Chance(0, number, range(8)))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        history.append(step.loss.item())
    assert sum(history[-5:]) < 0.5 * sum(history[:5])
    noise, t, _ = goal.draw(truth, given, Chance(0, 40, range(8)))
    last = goal.evaluate(network, truth, given, noise, torch.ones_like(t) * 0.9)
    pulls = gradient_ratios(goal.losses, last.output, last.guess, last.t)
    assert pulls["mse"].ratio == pytest.approx(1)
    assert 0.05 < pulls["frequency"].ratio < 0.3
    assert 0.05 < pulls["multiscale"].ratio < 0.3


def test_every_preset_has_an_objective() -> None:
    audio = AudioConsistency(decode=lambda z: z.flatten(1), hop=1)
    for one in PRESETS.values():
        Objective(
            prediction=one.prediction,
            times=time_law(one.times),
            losses=losses_for(one.losses, one.space, audio),
        )
    with pytest.raises(ConfigError, match="unknown consistency"):
        LossSum(PRESETS["v3mod2"].losses)


def test_losses_of_the_data_are_not_for_velocity() -> None:
    with pytest.raises(ConfigError, match=r"frequency, multiscale: .* velocity"):
        objective("v", weights={"mse": 1.0, "frequency": 0.15, "multiscale": 0.15})
    objective("v", weights={"charbonnier": 1.0, "frequency": 0.0})
