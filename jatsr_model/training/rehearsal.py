"""Audio sampled from noise during training, and how far it is from the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jatsr_data import Batch
from jatsr_model.dit import Conditions, DiT
from jatsr_model.flow import Prediction
from jatsr_model.latents import LatentDecoder
from jatsr_model.metrics.log_spectral import lsd
from jatsr_model.sampling import excited, fill, sample
from jatsr_model.training.feed import Feed, chance_of
from jatsr_model.training.settings import Precision
from jatsr_model.training.step import autocast
from jatsr_model.training.validation import BUCKETS, SEED


class Heard(NamedTuple):
    """What a rehearsal gave.

    Args:
        values: ``Val/LSD`` of what was sampled and ``Val/LSD_low`` of the low-res input, both
            against the decoded high-res latents; ``Val/SampleError``, the mean square error of the
            latents against their own mean square.
        waves: float32 ``[1, n]`` by tag.
    """

    values: Mapping[str, float]
    waves: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Samples the same crops from the same noise, again and again.

    Args:
        batch: the crops.
        feed: makes their conditions.
        decoder: of latents.
        prediction: of the network.
        steps: of the solver.
        precision: of the network.
    """

    batch: Batch
    feed: Feed
    decoder: LatentDecoder
    prediction: Prediction
    steps: int
    precision: Precision

    @torch.no_grad()
    def __call__(self, network: DiT) -> Heard:
        """Sample and listen; the network is left in evaluation mode."""
        network.eval()
        truth, given = self.feed(self.batch)
        chance = chance_of(self.batch, SEED, BUCKETS + 1, range(len(self.batch)), self.feed.device)
        noise = chance.normal("noise", *truth.data.shape[1:])
        with autocast(self.feed.device, self.precision):
            found = self._sampled(network, given, noise, truth.lengths)
        error = (found - truth.data).square().mean() / truth.data.square().mean()
        values = {"Val/SampleError": float(error)}
        wanted, low = self._references
        heard = self.decoder(found).cpu()
        values["Val/LSD"] = float(lsd(wanted, heard).mean())
        values["Val/LSD_low"] = float(lsd(wanted, low).mean())
        sounds = {"sampled": heard, "target": wanted, "low": low}
        waves = {
            f"Audio/{k:02d} {name}": wave[None].numpy()
            for name, sound in sounds.items()
            for k, wave in enumerate(sound)
        }
        return Heard(values, waves)

    def _sampled(
        self, network: DiT, given: Conditions, noise: Tensor, lengths: Tensor | None
    ) -> Tensor:
        if self.prediction == "envelope":
            if given.cutoff is not None:
                cutoffs = given.cutoff.tolist()
                noise = excited(network, self.decoder, given.low, cutoffs, noise)
            return fill(network, self.feed.normaliser, given.untold(), noise, lengths)
        return sample(network, self.prediction, given, noise, steps=self.steps, lengths=lengths)

    @cached_property
    def _references(self) -> tuple[Tensor, Tensor]:
        """The decoded high- and low-res crops."""
        truth, given = self.feed(self.batch)
        return self.decoder(truth.data).cpu(), self.decoder.low(given.low).cpu()
