"""How often excerpts take part in an epoch, by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jatsr_data.draws import draws
from shards.errors import ConfigError


@dataclass(frozen=True)
class Mixture:
    """Weights of groups of excerpts.

    A weight of 2 takes every excerpt of the group twice in each epoch, at two phases; 0.5 takes
    half of them, other ones in each epoch; 0 none.

    Attributes:
        by: what groups: ``tag:NAME`` (such as ``tag:genre``), ``caption_source``, or ``source``
            (the path of the file; groups are then beginnings of paths, the longest counts).
        weights: group -> weight; values of tags in any case of letters.
        other: weight of everything else.
    """

    by: str
    weights: Mapping[str, float] = field(default_factory=dict)
    other: float = 1.0

    def __post_init__(self) -> None:
        if self.by not in ("source", "caption_source") and not self.by.startswith("tag:"):
            raise ConfigError(
                f"Mixture: by={self.by!r} is unknown",
                hint="use 'tag:NAME', 'caption_source' or 'source'",
            )
        plain = {group: float(weight) for group, weight in self.weights.items()}
        object.__setattr__(self, "weights", plain)
        object.__setattr__(self, "other", float(self.other))
        for group, weight in [*plain.items(), ("other", self.other)]:
            if not 0.0 <= weight <= 1000.0:
                raise ConfigError(f"Mixture: expected weights in [0, 1000], found {weight} "
                                  f"for {group!r}")  # fmt: skip

    @property
    def column(self) -> str:
        """The column of the table that groups."""
        return "tags" if self.by.startswith("tag:") else self.by

    def group_of(self, value: str | None) -> str | None:
        """The group of an excerpt, None for everything else."""
        if value is None:
            return None
        if self.by != "source":
            return next((g for g in self.weights if g.lower() == value.lower()), None)
        fitting = [group for group in self.weights if value.startswith(group)]
        return max(fitting, key=len, default=None)


@dataclass(frozen=True, eq=False)
class Repeats:
    """How often each excerpt is taken.

    Attributes:
        group: int64, number of each excerpt's group.
        weight: float64, of each group.
    """

    group: NDArray[np.int64]
    weight: NDArray[np.float64]

    @staticmethod
    def once(samples: int) -> Repeats:
        """Every excerpt once."""
        return Repeats(np.zeros(samples, np.int64), np.ones(1))

    @property
    def expected(self) -> NDArray[np.float64]:
        """The weight of each excerpt."""
        return self.weight[self.group]

    def only(self, which: NDArray[np.bool_]) -> Repeats:
        """Those of some excerpts."""
        return Repeats(self.group[which], self.weight)

    def draw(
        self, seed: int, epoch: int, ids: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Excerpts in their order, as often as the epoch takes them: which one, which time.

        Of a group of n excerpts with weight w + f exactly round(f * n) are taken w + 1 times.
        """
        times = np.floor(self.weight)[self.group].astype(np.int64)
        for number, weight in enumerate(self.weight):
            if not weight % 1.0:
                continue
            members = np.flatnonzero(self.group == number)
            extra = round((weight % 1.0) * len(members))
            drawn = draws(seed, epoch, "mixture", ids[members])
            times[members[np.argsort(drawn, kind="stable")[:extra]]] += 1
        sample = np.repeat(np.arange(len(times)), times)
        first = np.cumsum(times) - times
        return sample, np.arange(len(sample)) - first[sample]
