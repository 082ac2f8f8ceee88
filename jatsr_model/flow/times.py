"""Laws of t in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from jatsr_model.chance import Chance
from shards.errors import ConfigError


class TimeLaw(Protocol):
    """A distribution on [0, 1], given by its distribution function and the inverse of it."""

    def quantile(self, u: Tensor) -> Tensor:
        """Maps uniform numbers in (0, 1) to t."""
        ...

    def cdf(self, t: Tensor) -> Tensor:
        """Probability of a smaller t."""
        ...


def sample(law: TimeLaw, chance: Chance) -> Tensor:
    """Independent times, float32 ``[B]``.

    Drawn in float64, away from 0 and 1, so that quantiles are finite.
    """
    u = chance.uniform("time")
    return law.quantile(u.clamp(1e-9, 1 - 1e-9)).float()


@dataclass(frozen=True)
class Uniform:
    """All t alike."""

    def quantile(self, u: Tensor) -> Tensor:
        """The identity."""
        return u

    def cdf(self, t: Tensor) -> Tensor:
        """The identity."""
        return t


@dataclass(frozen=True)
class LogitNormal:
    """``sigmoid(mean + std * normal)``: most weight in the middle (Esser et al., 2024)."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, u: Tensor) -> Tensor:
        """Of the normal law, squeezed."""
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))

    def cdf(self, t: Tensor) -> Tensor:
        """Of the normal law at the logit."""
        below: Tensor = torch.special.ndtr((torch.logit(t) - self.mean) / self.std)
        return below


@dataclass(frozen=True)
class UShape:
    """Density proportional to ``exp(a s) + exp(-a s)`` with ``s = t - 1/2`` (Lee et al., 2024).

    Most weight at both ends: with a = 4, the ends are 3.8 times as dense as the middle.
    """

    a: float = 4.0

    def quantile(self, u: Tensor) -> Tensor:
        """The distribution function is a hyperbolic sine, so this is its inverse."""
        return 0.5 + torch.asinh((2 * u - 1) * math.sinh(self.a / 2)) / self.a

    def cdf(self, t: Tensor) -> Tensor:
        """``1/2 + sinh(a s) / (2 sinh(a / 2))``."""
        return 0.5 + torch.sinh(self.a * (t - 0.5)) / (2 * math.sinh(self.a / 2))


@dataclass(frozen=True)
class Tent:
    """Density 4 t up to 1/2, then 4 (1 - t).

    What the original's sampler of "U-shaped" times really draws; for comparisons.
    """

    def quantile(self, u: Tensor) -> Tensor:
        """Square roots from both ends."""
        return torch.where(u < 0.5, torch.sqrt(u / 2), 1 - torch.sqrt((1 - u) / 2))

    def cdf(self, t: Tensor) -> Tensor:
        """Parabolas from both ends."""
        return torch.where(t < 0.5, 2 * t**2, 1 - 2 * (1 - t) ** 2)


TIME_LAWS: Mapping[str, Callable[[], TimeLaw]] = MappingProxyType(
    {"uniform": Uniform, "logit-normal": LogitNormal, "u-shape": UShape, "tent": Tent}
)


def time_law(name: str) -> TimeLaw:
    """A law with its usual parameters.

    Raises:
        ConfigError: no such law.
    """
    if name not in TIME_LAWS:
        raise ConfigError(
            f"--times {name}: there is no such law of t", hint="one of " + ", ".join(TIME_LAWS)
        )
    return TIME_LAWS[name]()
