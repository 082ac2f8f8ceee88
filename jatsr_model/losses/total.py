"""The weighted sum of losses, gated by time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from jatsr_model.losses.terms import LOSSES, Guess
from shards.errors import ConfigError

MAIN = ("mse", "charbonnier")
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
        further: losses beside those of ``LOSSES`` or in place of them; gated.
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
        if any(weight < 0 for weight in self.weights.values()):
            raise ConfigError(
                f"--loss: weights must not be negative, found {dict(self.weights)}",
                hint="give 0 to leave a loss out",
            )
        if not any(self.weights.get(name, 0) for name in MAIN):
            raise ConfigError(
                f"--loss: neither mse nor charbonnier in {dict(self.weights)}",
                hint="the others say nothing about early times; give mse=1",
            )

    def terms(self, guess: Guess, t: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """Every loss of every sample, gated, not weighted.

        Args:
            guess: any float type; computed in float32, outside of autocast.
            t: ``[B]``.
            lengths: int64 ``[B]`` frames of each sample; what lies behind does not count.

        Returns:
            float32 ``[B]`` by name.
        """
        with torch.autocast(guess.data.device.type, enabled=False):
            guess, scale = guess.in_float32(), torch.ones_like(t)
            if lengths is not None:
                guess, scale = _without_padding(guess, lengths)
            functions = {**LOSSES, **self.further}
            chosen = [name for name, weight in self.weights.items() if weight]
            gates = {name: 1.0 if name in MAIN else gate(t) for name in chosen}
            return {name: gates[name] * scale * functions[name](guess) for name in chosen}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum, averaged over samples: what is minimised."""
        parts = [self.weights[name] * value.mean() for name, value in terms.items()]
        return torch.stack(parts).sum()


def _without_padding(guess: Guess, lengths: Tensor) -> tuple[Guess, Tensor]:
    """Make the padding right, and undo that it counts in the means."""
    frames = guess.data.shape[-1]
    inside = torch.arange(frames, device=lengths.device) < lengths[:, None, None]
    zero = guess.data.new_zeros(())
    tensors = {
        name: torch.where(inside, value, zero)
        for name, value in vars(guess).items()
        if value is not None and name != "cutoff"
    }
    return replace(guess, **tensors), frames / lengths
