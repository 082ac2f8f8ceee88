"""Grids of times: the published one, and what it becomes with few and with many steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jatsr_model.sampling import GRIDS, linear_quadratic, time_grid
from shards.errors import ConfigError


def official(steps: int) -> list[float]:
    """SAGA-SR's, written down as published: time runs from 1 (noise) to 0."""
    linear = steps // 2
    quadratic = steps - linear
    falling = [1 - i / 1000 for i in range(linear + 1)]
    falling += [falling[-1] * (1 - (k / quadratic) ** 2) for k in range(1, quadratic + 1)]
    return [1 - t for t in falling]


@pytest.mark.parametrize("steps", [63, 64, 100, 250, 1000])
def test_the_published_grid_turned_round(steps: int) -> None:
    assert time_grid("linear-quadratic", steps).tolist() == pytest.approx(
        official(steps), abs=1e-12
    )


@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_the_published_grid_may_be_had_at_any_count(steps: int) -> None:
    assert linear_quadratic(steps, 1000).tolist() == pytest.approx(official(steps), abs=1e-12)


def test_known_times_of_a_hundred_steps() -> None:
    grid = time_grid("linear-quadratic", 100)
    assert grid[[50, 75]].tolist() == pytest.approx([0.05, 1 - 0.7125])
    assert float(grid[-1] - grid[-2]) == pytest.approx(0.0376, abs=1e-4)


@given(st.sampled_from(sorted(GRIDS)), st.integers(1, 3000))
def test_every_grid_rises_from_noise_to_data(name: str, steps: int) -> None:
    grid = time_grid(name, steps)
    assert grid.dtype == torch.float64
    assert len(grid) == steps + 1
    assert grid[0] == 0
    assert grid[-1] == 1
    assert (grid.diff() > 0).all()


@given(st.integers(1, 62))
def test_few_steps_are_not_wasted_at_the_start(steps: int) -> None:
    """Steps only grow, and the first is at most the uniform one but not negligible beside it."""
    sizes = time_grid("linear-quadratic", steps).diff()
    assert (sizes.diff() > -1e-12).all()
    assert 1 / 20 <= sizes[0] * steps <= 1 + 1e-12


def test_two_steps_are_halves() -> None:
    assert time_grid("linear-quadratic", 2).tolist() == [0, 0.5, 1]


def test_what_cannot_be_a_grid_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--grid cosine(.|\n)*linear-quadratic"):
        time_grid("cosine", 10)
    with pytest.raises(ConfigError, match="--steps 0"):
        time_grid("uniform", 0)
    with pytest.raises(ConfigError, match="above 5"):
        linear_quadratic(10, 5)
