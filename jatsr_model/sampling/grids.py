"""Grids of times, from 0 (noise) to 1 (data)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from jatsr_model.flow import uniform_grid
from shards.errors import ConfigError

REFERENCE = 1000


def linear_quadratic(steps: int, reference: int | None = None) -> Tensor:
    """Equal small steps up to the middle, then times that grow with the square.

    With ``L = steps // 2`` and ``Q = steps - L``: ``t_i = i / R`` up to ``i = L``, then
    ``t_{L+k} = t_L + (1 - t_L) (k / Q)^2``. That is SAGA-SR's grid with time turned round.

    Its R is 1000, and here too from 63 to 1000 steps. Fewer steps take the smaller R from which on
    no step is shorter than the one before it: 5 of 10 steps would otherwise be spent on the first
    half per cent of the path. More steps take R = steps, since ``t_L`` would otherwise reach 1.

    Args:
        steps: how many; at least 1.
        reference: R, above ``L``; None chooses as above.

    Returns:
        float64 ``[steps + 1]``, strictly rising from 0 to 1.

    Raises:
        ConfigError: a reference so small that the linear part would go beyond 1.
    """
    linear = steps // 2
    quadratic = steps - linear
    if reference is None:
        reference = min(max(REFERENCE, steps), quadratic**2 + linear)
    if reference <= linear:
        raise ConfigError(
            f"a linear-quadratic grid of {steps} steps with {reference} as its reference",
            hint=f"give a reference above {linear}, or none",
        )
    joint = linear / reference
    rising = torch.arange(linear, dtype=torch.float64) / reference
    rest = torch.arange(quadratic + 1, dtype=torch.float64) / quadratic
    return torch.cat([rising, joint + (1 - joint) * rest.square()])


GRIDS: Mapping[str, Callable[[int], Tensor]] = MappingProxyType(
    {"uniform": uniform_grid, "linear-quadratic": linear_quadratic}
)


def time_grid(name: str, steps: int) -> Tensor:
    """A grid by its name: float64 ``[steps + 1]`` from 0 to 1.

    Raises:
        ConfigError: no such grid, or no steps.
    """
    if name not in GRIDS:
        raise ConfigError(
            f"--grid {name}: there is no such grid of times", hint="one of " + ", ".join(GRIDS)
        )
    if steps < 1:
        raise ConfigError(f"--steps {steps}: sampling takes at least one step")
    return GRIDS[name](steps)
