"""Solvers of ``dz/dt = velocity(z, t)`` over any grid of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from shards.errors import ConfigError

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``(z [B, ...], t of no dimensions) -> dz/dt [B, ...]``."""

Stepper = Callable[[Velocity, Tensor, Tensor, Tensor], Tensor]
"""``(velocity, z, t, step) -> z`` at ``t + step``."""


def euler(velocity: Velocity, z: Tensor, t: Tensor, step: Tensor) -> Tensor:
    """First order, one evaluation."""
    return z + step * velocity(z, t)


def midpoint(velocity: Velocity, z: Tensor, t: Tensor, step: Tensor) -> Tensor:
    """Second order, two evaluations, none at the end of the step."""
    half = z + step / 2 * velocity(z, t)
    return z + step * velocity(half, t + step / 2)


def heun(velocity: Velocity, z: Tensor, t: Tensor, step: Tensor) -> Tensor:
    """Second order, two evaluations, one of them at the end of the step."""
    first = velocity(z, t)
    return z + step / 2 * (first + velocity(z + step * first, t + step))


SOLVERS: Mapping[str, Stepper] = MappingProxyType(
    {"euler": euler, "midpoint": midpoint, "heun": heun}
)


def uniform_grid(steps: int) -> Tensor:
    """``steps + 1`` times from 0 to 1, float64."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def solve(
    solver: str, velocity: Velocity, z: Tensor, grid: Tensor, *, avoid_end: bool = False
) -> Tensor:
    """Follow the flow.

    Args:
        solver: ``euler``, ``midpoint`` or ``heun``.
        velocity: see ``Velocity``; t comes in the type of z, on its device.
        z: ``[B, ...]`` at the first time of the grid.
        grid: ``[steps + 1]`` times, strictly rising or strictly falling.
        avoid_end: take the last step with Euler, which does not ask for the velocity at the last
            time. That of a network that predicts data is undefined at t = 1.

    Returns:
        z at the last time of the grid.

    Raises:
        ConfigError: no such solver, or a grid with repeated or unordered times.
    """
    if solver not in SOLVERS:
        raise ConfigError(
            f"--solver {solver}: there is no such solver", hint="one of " + ", ".join(SOLVERS)
        )
    steps = grid.diff()
    if len(grid) < 2 or not ((steps > 0).all() or (steps < 0).all()):
        raise ConfigError(
            f"a grid of times must rise or fall throughout, found {grid.tolist()}",
            hint="give at least two times, none of them twice",
        )
    steppers = [SOLVERS[solver]] * len(steps)
    if avoid_end:
        steppers[-1] = euler
    for stepper, t, step in zip(steppers, grid[:-1].to(z), steps.to(z), strict=True):
        z = stepper(velocity, z, t, step)
    return z
