"""One training step in several ways, on the same weights and the same batch.

The networks share their parameters, so that memory is no larger for many ways than for two.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from plain_dit import PlainDiT
from torch import Tensor, nn
from torch.nn import functional

from jatsr_model.dit import Conditions, DiT, DiTConfig, Preset
from jatsr_model.dit.measure import measure
from jatsr_model.flow import Objective, time_law
from jatsr_model.flow.objective import Truth
from jatsr_model.losses import losses_for
from jatsr_model.training.optimizer import make_optimizer

OBJECTIVE = Objective(
    prediction="x", times=time_law("uniform"), losses=losses_for({"mse": 1.0}, "dac-72")
)
PEAK_FLOPS = 989e12
RATE, BETAS, DECAY, CLIP = 1e-6, (0.9, 0.99), 0.01, 1.0
Weights = dict[str, nn.Parameter]


@dataclass(frozen=True)
class Way:
    """How a step is made.

    Args:
        plain: the plain network and torch's default AdamW instead of ours and the trainer's.
        bf16: under autocast.
        compile: ``blocks``, one by one as the trainer does it, or ``all`` of the network at once.
        eager_chance: compiled code draws dropout with torch's kernels instead of its own.
    """

    plain: bool = False
    bf16: bool = False
    compile: str = ""
    eager_chance: bool = False

    def __str__(self) -> str:
        kind = f"compiled {self.compile}" if self.compile else "eager"
        return (
            f"{'plain' if self.plain else 'jatsr'}, {'bf16' if self.bf16 else 'fp32'}, {kind}"
            f"{', chance eager' if self.eager_chance else ''}"
        )


class Case(NamedTuple):
    """Data of a step; chance is drawn beforehand."""

    data: Tensor
    noise: Tensor
    t: Tensor
    given: Conditions


def make_case(config: DiTConfig, frames: int, batch: int) -> Case:
    """White noise, with all conditions that the network takes; one sample lacks them."""
    shape = (batch, config.latent_dim, frames)
    has = torch.arange(batch) > 0
    given = Conditions(low=torch.randn(shape), has_low=has)
    if config.rolloff_dim:
        both = has[:, None].expand(-1, 2)
        given = replace(given, rolloff=torch.rand(batch, 2), has_rolloff=both)
    return Case(torch.randn(shape), torch.randn(shape), torch.rand(batch), given)


def make_weights(config: DiTConfig) -> Weights:
    """Of a network that does something: none of them are zero."""
    torch.manual_seed(0)
    state = DiT(config).state_dict()
    return {k: nn.Parameter(value + 0.02 * torch.randn_like(value)) for k, value in state.items()}


def difference(config: DiTConfig, weights: Weights, case: Case) -> float:
    """How far gradients of both networks are apart, relative to their size; without dropout."""
    config, found = replace(config, dropout=0.0, drop_path=0.0), list[list[Tensor]]()
    for plain in (False, True):
        loss = loss_of(make_network(config, weights, plain=plain), case, plain=plain)
        used = [parameter for parameter in weights.values() if parameter.requires_grad]
        found.append(list(torch.autograd.grad(loss, used)))
    off = sum((a - b).square().sum() for a, b in zip(*found, strict=True))
    return float((off / sum(a.square().sum() for a in found[0])) ** 0.5)


def make_network(config: DiTConfig, weights: Weights, *, plain: bool) -> nn.Module:
    """Ours or the plain one, around the same weights."""
    network = (PlainDiT if plain else DiT)(config)
    network.load_state_dict(weights, assign=True)  # parameters stay what they are
    return network.train()


def loss_of(network: nn.Module, case: Case, *, plain: bool) -> Tensor:
    """Mean square error of predicted data."""
    data, noise, t, given = case
    if not plain:
        return OBJECTIVE.evaluate(network, Truth(data=data), given, noise, t).loss
    z = (1 - t[:, None, None]) * noise + t[:, None, None] * data
    return functional.mse_loss(network(z, t, given).float(), data)


class Optimizers(NamedTuple):
    """Of the same weights, each with its own moments."""

    plain: torch.optim.AdamW
    ours: torch.optim.AdamW


def make_optimizers(config: DiTConfig, weights: Weights) -> Optimizers:
    """The default of torch, and the trainer's."""
    network = make_network(config, weights, plain=False)
    plain = torch.optim.AdamW(weights.values(), RATE, BETAS, weight_decay=DECAY)
    return Optimizers(plain, make_optimizer(network, RATE, BETAS, DECAY))


def make_step(
    way: Way, config: DiTConfig, weights: Weights, optimizers: Optimizers, case: Case
) -> Callable[[], None]:
    """Forward, loss, backward, clip, AdamW."""
    network: Any = make_network(config, weights, plain=way.plain)
    optimizer = optimizers.plain if way.plain else optimizers.ours
    options: Any = {"options": {"fallback_random": True}} if way.eager_chance else {}
    if way.compile == "blocks":
        for block in network.blocks:
            block.compile(**options)
    elif way.compile:
        network.compile(**options)
    device = case.data.device.type

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=way.bf16):
            loss = loss_of(network, case, plain=way.plain)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class Timing(NamedTuple):
    """Seconds of the first step, and of each after it."""

    first: float
    steps: list[float]

    @property
    def median(self) -> float:
        """Of the steps."""
        return statistics.median(self.steps)


def compare(
    steps: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float]
) -> dict[str, Timing]:
    """Take turns, so that what else the machine does hits all alike."""

    def timed(step: Callable[[], None]) -> float:
        began = clock()
        step()
        return clock() - began

    first = {name: timed(step) for name, step in steps.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            seconds = timed(step)
            if turn:  # the first one warms up
                found[name].append(seconds)
    return {name: Timing(first[name], found[name]) for name in steps}


def ratio(base: Timing, other: Timing) -> float:
    """Median of how many times as fast the other is, turn by turn."""
    return statistics.median(a / b for a, b in zip(base.steps, other.steps, strict=True))


def clock_of(device: str, cpu_time: bool) -> Callable[[], float]:
    """Wall time; of a GPU when it has done its work; or processor time of all threads."""

    def synchronized() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    if device == "cuda":
        return synchronized
    return time.process_time if cpu_time else time.perf_counter


def utilisation(model: Preset, frames: int, batch: int, seconds: float) -> float:
    """Share of a GPU's peak that a step needs for its products of matrices."""
    with torch.device("cpu"):  # where it counts
        flops = measure(model, frames / model.frame_rate).forward_flops
    return 3 * flops * batch / seconds / PEAK_FLOPS
