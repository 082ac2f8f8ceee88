"""The weighted sum of losses, gated by time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from jatsr_model.losses.terms import LOSSES, Guess
from shards.errors import ConfigError

MAIN = ("mse", "charbonnier", "levels")
# The others are gated: early on the best guess is a blurred mean, which must not look like data.
GATE_OPENS, GATE_OPEN = 0.5, 0.75


def gate(t: Tensor) -> Tensor:
    """0 up to t = 0.5, 1 from t = 0.75, linear between: ``[B]`` -> ``[B]``."""
    return ((t - GATE_OPENS) / (GATE_OPEN - GATE_OPENS)).clamp(0, 1)


@dataclass(frozen=True)
class LossSum:
    """Weighted losses.

    Args:
        weights: by name; zero weights are not computed.
        further: losses beside those of ``LOSSES`` or in place of them; gated. ``losses_for`` gives
            the consistency that suits the latents.
    """

    weights: Mapping[str, float]
    further: Mapping[str, Callable[[Guess], Tensor]] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ConfigError: an unknown loss, a negative weight, or nothing to minimise.
        """
        known = {**LOSSES, **self.further}
        unknown = sorted(self.weights.keys() - known.keys())
        if unknown:
            raise ConfigError(
                f"--loss: unknown {', '.join(unknown)}", hint="one of " + ", ".join(known)
            )
        if not all(0 <= weight < math.inf for weight in self.weights.values()):
            raise ConfigError(
                f"--loss: weights must be finite and not negative, found {dict(self.weights)}",
                hint="give 0 to leave a loss out",
            )
        if not any(self.weights.get(name, 0) for name in MAIN):
            raise ConfigError(
                f"--loss: none of mse, charbonnier and levels in {dict(self.weights)}",
                hint="the others say nothing about early times; give mse=1",
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of those with a weight."""
        return tuple(name for name, weight in self.weights.items() if weight)

    def terms(self, guess: Guess, t: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Every loss of every sample, gated, not weighted.

        What lies behind the end of a sample is as if it were right and does not count in the means.
        ``frequency`` and ``multiscale`` do this nearly: zeros make spectra finer, and a window over
        the end holds some.

        Args:
            guess: any float type; computed in float32, outside of autocast.
            t: ``[B]``.
            lengths: int64 ``[B]`` frames of each sample, where some end before T.

        Returns:
            float32 ``[B]`` by name.
        """
        with torch.autocast(guess.data.device.type, enabled=False):
            guess, late = guess.in_float32(lengths), gate(t)
            values = {name: {**LOSSES, **self.further}[name](guess) for name in self.chosen}
            return {k: v if k in MAIN else late * v for k, v in values.items()}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum, averaged over samples: what is minimised."""
        parts = [self.weights[name] * value.mean() for name, value in terms.items()]
        return torch.stack(parts).sum()
