"""Learning rates, against torch's own schedules and against closed forms."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from jatsr_model.training.schedules import schedule
from shards.errors import ConfigError

LR = 3e-4


def rates_of(make, steps: int) -> list[float]:
    """What an optimizer steps with under one of torch's schedules."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler: LRScheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("warmup", "floor"), [(2, 0.0), (10, 0.1), (49, 0.0)])
def test_cosine_is_torchs(warmup: int, floor: float) -> None:
    steps = 50

    def make(optimizer: SGD) -> LRScheduler:
        up = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        down = CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=floor * LR)
        return SequentialLR(optimizer, [up, down], milestones=[warmup - 1])

    rate = schedule("cosine", LR, warmup, steps, floor)
    assert [rate(s) for s in range(steps)] == pytest.approx(rates_of(make, steps), rel=1e-6)


def test_constant_is_torchs() -> None:
    rate = schedule("constant", LR, 10, 50)
    expected = rates_of(lambda o: LinearLR(o, start_factor=1 / 10, total_iters=9), 50)
    assert [rate(s) for s in range(50)] == pytest.approx(expected)


def test_inverse_has_the_figures_of_its_paper() -> None:
    rate = schedule("inverse", LR, 0, 26_000)
    shares = [rate(s) / LR for s in (0, 99, 229, 459, 26_000)]
    assert shares == pytest.approx([0.01, 0.634, 0.901, 0.990, 0.987], abs=1e-3)
    assert rate(3 * 10**6) / LR == pytest.approx(0.5)


@given(
    name=st.sampled_from(["cosine", "constant"]),
    warmup=st.integers(0, 40),
    more=st.integers(1, 60),
    floor=st.floats(0, 1),
)
def test_rises_to_the_top_and_falls_to_the_floor(
    name: str, warmup: int, more: int, floor: float
) -> None:
    steps = warmup + more
    rate = schedule(name, LR, warmup, steps, floor)
    rates = [rate(s) for s in range(steps)]
    top = max(warmup - 1, 0)
    assert rates[0] == pytest.approx(LR / max(warmup, 1))
    assert rates[top] == pytest.approx(LR)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if steps > top + 1:
        assert rates[-1] == pytest.approx(LR * (floor if name == "cosine" else 1))
    assert rate(steps) == rate(steps + 1000) == rates[-1]
    assert min(rates[:-1], default=LR) > 0


@pytest.mark.parametrize("name", ["cosine", "constant", "inverse"])
def test_a_schedule_has_no_state(name: str) -> None:
    rate = schedule(name, LR, 3, 10)
    again = pickle.loads(pickle.dumps(rate))
    order = [7, 0, 3, 3, 9]
    assert [again(s) for s in order] == [rate(s) for s in order]


def test_errors_name_the_flag() -> None:
    with pytest.raises(ConfigError, match="--schedule linear"):
        schedule("linear", LR, 0, 10)
    with pytest.raises(ConfigError, match=r"--warmup 10 .* 10 steps"):
        schedule("cosine", LR, 10, 10)
    schedule("constant", LR, 10, 10)
    assert schedule("cosine", LR, 1, 1)(0) == LR
