"""Random numbers of training, each a function of what it is drawn for.

No generator has a state that would have to be saved, and a sample gets the same numbers whatever
its place in a batch, the number of ranks or the size of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from jatsr_data.draws import draws


@dataclass(frozen=True)
class Chance:
    """Chance of the samples of a batch.

    The numbers of a device are its own: those of a CPU and of a GPU differ.

    Args:
        seed: of the training.
        step: of the optimizer.
        places: of the samples in the global batch, all ranks together.
        device: where numbers are wanted.
    """

    seed: int
    step: int
    places: Sequence[int]
    device: torch.device | str = "cpu"

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal float32 ``[B, *shape]``.

        Args:
            purpose: what for, at most 8 letters; others are independent.
            shape: of each sample.
        """
        out = torch.empty(len(self.places), *shape, device=self.device)
        for row, generator in self._each(out, purpose):
            row.normal_(generator=generator)
        return out

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform in [0, 1), float64 ``[B, *shape]``; see ``normal``."""
        out = torch.empty(len(self.places), *shape, device=self.device, dtype=torch.float64)
        for row, generator in self._each(out, purpose):
            row.uniform_(generator=generator)
        return out

    def repeated(self, times: int) -> Chance:
        """Of a batch in which every sample stands ``times`` times in a row, each for itself."""
        places = tuple(place * times + k for place in self.places for k in range(times))
        return replace(self, places=places)

    def _each(self, out: Tensor, purpose: str) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Every row with its generator, which is good until the next row."""
        generator = torch.Generator(self.device)
        seeds = draws(self.seed, self.step, purpose, np.asarray(self.places, np.int64))
        for row, seed in zip(out, seeds.tolist(), strict=True):
            # the generator of a CPU looks at the lower half only
            yield row, generator.manual_seed(seed >> 32)
