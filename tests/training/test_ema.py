"""The average of weights; that of two ranks is in test_gather.py."""

from __future__ import annotations

import pytest
import torch
from ranks import CONFIG
from tiny_dit import awake
from torch import nn

from jatsr_model.training.ema import Ema
from jatsr_model.training.gather import gather, scatter
from jatsr_model.training.world import World


@pytest.fixture
def network() -> nn.Module:
    return awake(CONFIG)


def change(network: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))


def copied(tensors) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_average_has_the_closed_form(network: nn.Module, decay: float) -> None:
    ema = Ema(network, decay)
    steps, seen = 12, []
    for step in range(steps):
        change(network, step)
        ema.update(step)
        seen.append(copied(dict(network.named_parameters())))
    # weight of step k: what it gets, times all that later steps leave of it
    decays = [min(decay, 1 - (1 + step) ** -0.75) for step in range(steps)]
    shares = [
        (1 - decays[k]) * torch.tensor(decays[k + 1 :], dtype=torch.float64).prod()
        for k in range(steps)
    ]
    assert sum(shares) == pytest.approx(1)
    for name, average in ema.state_dict().items():
        expected = sum(s * old[name].double() for s, old in zip(shares, seen, strict=True))
        torch.testing.assert_close(average.double(), expected, rtol=0, atol=2e-6)


def test_the_first_step_replaces_the_random_start(network: nn.Module) -> None:
    ema = Ema(network, 0.9999)
    change(network, 1)
    ema.update(0)
    for name, parameter in network.named_parameters():
        assert torch.equal(ema.state_dict()[name], parameter)


def test_late_steps_have_the_decay_that_was_asked_for(network: nn.Module) -> None:
    ema = Ema(network, 0.999)
    before = copied(ema.state_dict())
    change(network, 1)
    ema.update(10**6)
    for name, parameter in network.named_parameters():
        expected = before[name] + 0.001 * (parameter - before[name])
        torch.testing.assert_close(ema.state_dict()[name], expected, rtol=1e-6, atol=1e-7)


def test_swapping_gives_the_average_and_takes_it_back_exactly(network: nn.Module) -> None:
    ema = Ema(network, 0.9)
    change(network, 1)
    places = {name: p.data_ptr() for name, p in network.named_parameters()}
    average, current = copied(ema.state_dict()), copied(network.state_dict())
    with ema.swapped():
        for name, parameter in network.named_parameters():
            assert torch.equal(parameter, average[name])
            assert parameter.data_ptr() == places[name]  # in place
    with pytest.raises(ZeroDivisionError), ema.swapped():
        raise ZeroDivisionError
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, current[name])
        assert torch.equal(ema.state_dict()[name], average[name])


def test_nothing_else_happens_while_swapped(network: nn.Module) -> None:
    ema = Ema(network, 0.9)
    with ema.swapped():
        with pytest.raises(AssertionError):
            ema.update(0)
        with pytest.raises(AssertionError):
            ema.state_dict()
        with pytest.raises(AssertionError), ema.swapped():
            pass
    ema.update(0)


def test_an_average_can_be_loaded(network: nn.Module) -> None:
    ema = Ema(network, 0.9)
    saved = gather(ema.state_dict(), World())
    for load in (
        lambda other: other.load_state_dict(saved),
        lambda other: scatter(saved, other.state_dict(), World()),
    ):
        other = Ema(awake(CONFIG, seed=1), 0.9)
        load(other)
        for name, average in other.state_dict().items():
            assert torch.equal(average, saved[name])
