"""Guidance: predictions made with fewer conditions, and how far to go beyond them.

Data and velocity follow from one another by a linear map, and the weights of a guidance add up to
1. So it is the same whichever of the two a network predicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from jatsr_model.dit.conditions import Conditions, Name
from shards.errors import ConfigError

LEAST_MET = 0.005  # share of training samples from which on a null counts as learned
_FLAGS = {"low": 1, "rolloff": 2, "text": 1}  # drawn independently by ``Conditions.dropped``


class Branch(NamedTuple):
    """One prediction: its weight in the sum, and which conditions it is made without."""

    weight: float
    without: tuple[Name, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """What is made of several predictions u; as it stands, only the one with all conditions.

    With ``text`` left at None: ``u(null) + scale (u(all) - u(null))``, where null lacks the
    conditions named by ``null``. With ``text``, as in SAGA-SR (and InstructPix2Pix):
    ``u(none) + scale (u(low) - u(none)) + text (u(all) - u(low))``, where "none" lacks low-res
    latents and text and "low" lacks text. Roll-offs are given in all three.

    Args:
        scale: 1 for no guidance, 0 for the null.
        text: scale of the text, or None. SAGA-SR has scale 1.4 and text 1.2.
        null: what the null lacks; only without ``text``.

    Raises:
        ConfigError: a scale that is negative or not finite, or names that are none.
    """

    scale: float = 1.0
    text: float | None = None
    null: tuple[Name, ...] = ("low",)

    def __post_init__(self) -> None:
        """Check numbers and names."""
        for flag, value in (("--cfg", self.scale), ("--cfg-text", self.text)):
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{flag} {value}", hint="give a number, 0 or more; 1 is none")
        if not self.null or not set(self.null) <= set(get_args(Name)):
            raise ConfigError(
                f"--cfg-null {','.join(self.null)}: the null has to lack something known",
                hint="one or more of " + ", ".join(get_args(Name)),
            )

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Predictions that are needed, and their weights, which add up to 1."""
        if self.text is None:
            found: tuple[Branch, ...] = (Branch(self.scale), Branch(1 - self.scale, self.null))
        else:
            found = (
                Branch(self.text),
                Branch(self.scale - self.text, ("text",)),
                Branch(1 - self.scale, ("low", "text")),
            )
        return tuple(branch for branch in found if branch.weight)

    def require(self, dropout: float) -> None:
        """Refuse nulls that a network has hardly met in training.

        Args:
            dropout: its ``Objective.condition_dropout``.

        Raises:
            ConfigError: it met one in less than ``LEAST_MET`` of samples, so that what it predicts
                there is arbitrary.
        """
        for _, without in self.branches:
            share = dropout ** sum(_FLAGS[name] for name in set(without))
            if share < LEAST_MET:
                raise ConfigError(
                    f"guidance asks for predictions without {' and '.join(without)}, which the "
                    f"network met in {share:.2%} of its training samples",
                    hint="use --cfg 1, leave out less, or train with more --condition-dropout",
                )


def stacked(given: Conditions, branches: tuple[Branch, ...]) -> Conditions:
    """The conditions of all branches in one batch, one branch behind the other."""
    parts = [given.without(*branch.without) for branch in branches]
    if len(parts) == 1:
        return parts[0]
    joined = {}
    for field in fields(Conditions):
        found = [getattr(part, field.name) for part in parts]
        if any(value is not None for value in found):
            joined[field.name] = torch.cat([_flags(given, field.name, v) for v in found])
    return replace(given, **joined)


def _flags(given: Conditions, name: str, value: Tensor | None) -> Tensor:
    """A flag that is None in this branch but not in others says that all samples have it."""
    if value is not None:
        return value
    shape = (len(given.low), 2) if name == "has_rolloff" else (len(given.low),)
    return torch.ones(shape, dtype=torch.bool, device=given.low.device)


def combine(outputs: Tensor, branches: tuple[Branch, ...]) -> Tensor:
    """The weighted sum: ``[branches * B, ...]`` -> ``[B, ...]``.

    Element by element, since autocast would run a product of matrices in half precision.
    """
    if len(branches) == 1:
        return outputs
    parts = outputs.chunk(len(branches))
    weighted = [branch.weight * part for branch, part in zip(branches, parts, strict=True)]
    return torch.stack(weighted).sum(0)
