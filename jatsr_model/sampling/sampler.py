"""Sampling: the flow followed from noise to data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jatsr_model.dit.conditions import Conditions
from jatsr_model.flow import Prediction, solve, to_velocity
from jatsr_model.flow.objective import Network
from jatsr_model.flow.solvers import Velocity
from jatsr_model.lengths import ended
from jatsr_model.sampling.grids import time_grid
from jatsr_model.sampling.guidance import Guidance, combine, stacked
from shards.errors import ConfigError

NO_GUIDANCE = Guidance()


@torch.no_grad()  # not inference_mode: what is cached on the way must still serve training
def sample(
    network: Network,
    prediction: Prediction,
    given: Conditions,
    noise: Tensor,
    *,
    steps: int | Tensor = 50,
    solver: str = "euler",
    guidance: Guidance = NO_GUIDANCE,
    lengths: Tensor | None = None,
) -> Tensor:
    """Follow the flow from noise at t = 0 to data at t = 1.

    All arithmetic but the network's is float32 whatever autocast says (float64 for such noise). A
    module runs in evaluation mode and is afterwards as it was. A sample depends on its own noise
    and conditions alone, up to rounding: kernels may sum in another order in another batch.

    Args:
        network: as ``DiT.forward``; one call per evaluation, on ``B`` times the branches of the
            guidance.
        prediction: what it predicts, ``x`` or ``v``.
        given: conditions of the batch.
        noise: ``[B, C, T]``, normal, on the device of the conditions.
        steps: how many, all alike; or the times themselves, rising from 0 to 1: see ``time_grid``.
        solver: ``euler`` (one evaluation per step), ``midpoint`` or ``heun`` (two).
        guidance: see there; none by default.
        lengths: int64 ``[B]``, where samples end before T.

    Returns:
        normalised data ``[B, C, T]``; zero behind the end of a sample.

    Raises:
        ConfigError: no such solver, or a grid that does not lead from 0 to 1.
    """
    times = time_grid("uniform", steps) if isinstance(steps, int) else steps
    if len(times) < 2 or times[0] != 0 or times[-1] != 1:
        raise ConfigError(
            f"sampling goes from t = 0 to t = 1, found the times {times.tolist()}",
            hint="take a grid of time_grid()",
        )
    start = noise.to(torch.promote_types(noise.dtype, torch.float32))
    with evaluating(network):
        velocity = guided_velocity(network, prediction, given, guidance, lengths)
        # only Heun's last step asks for the velocity at t = 1, which predicted data do not have
        avoid = prediction == "x" and solver == "heun"
        data = solve(solver, velocity, start, times, avoid_end=avoid)
    return ended(data, lengths)


def guided_velocity(
    network: Network,
    prediction: Prediction,
    given: Conditions,
    guidance: Guidance = NO_GUIDANCE,
    lengths: Tensor | None = None,
) -> Velocity:
    """The velocity that ``solve`` follows; arguments as for ``sample``.

    For whoever does more at each step, such as joining windows of a long signal.
    """
    branches = guidance.branches
    count = len(branches)
    conditions = stacked(given, branches)
    ends = None if lengths is None else lengths.repeat(count)

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        times = t.to(z.device, torch.float32).expand(count * len(z))
        output = network(z.repeat(count, 1, 1), times, conditions, ends)
        return to_velocity(prediction, combine(output.to(z.dtype), branches), z, t)

    return velocity


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Without dropout; every module is then in the mode that it was in before."""
    if not isinstance(network, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
