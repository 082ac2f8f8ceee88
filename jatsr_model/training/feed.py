"""From what a reader gives to what a network takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from jatsr_data import Batch, Normaliser
from jatsr_model.chance import Chance
from jatsr_model.dit import Conditions
from jatsr_model.flow.objective import Truth


class Captions(Protocol):
    """As ``jatsr_model.text.TextEncoder``."""

    def __call__(self, captions: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Embedded captions ``[B, L, D]``, bool masks ``[B, L]``, which have any: bool ``[B]``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Normalised data and conditions on the training device; channels become samples.

    Args:
        normaliser: of the dataset, or of the training that is continued.
        device: where to.
        text: embeds captions; None for a network without text.
        consistency: also give what losses of consistency need.
    """

    normaliser: Normaliser
    device: torch.device
    text: Captions | None = None
    consistency: bool = False

    def __call__(self, batch: Batch) -> tuple[Truth, Conditions]:
        """Prepare a batch.

        Args:
            batch: B crops on the CPU, in pinned memory or not.

        Returns:
            data and conditions of ``B * channels`` samples; the channels of a crop follow each
            other. ``lengths`` is None where all crops are full.
        """
        full = bool((batch.frames == batch.hr.shape[-1]).all())  # asked on the CPU: no waiting
        captions = batch.caption
        batch = batch.to(self.device, non_blocking=True)
        channels = batch.hr.shape[1]
        hr, lr = (stream.flatten(0, 1) for stream in self.normaliser(batch))
        rolloffs = torch.stack([batch.rolloff_lr, batch.rolloff_hr], dim=1)
        given = Conditions(
            low=lr,
            rolloff=rolloffs.repeat_interleave(channels, 0),
            cutoff=batch.cutoff.repeat_interleave(channels, 0),
        )
        if self.text is not None:
            given = _with_text(given, self.text(captions), channels)
        # what only fills up has no frames, and a network wants at least one
        lengths = None if full else batch.frames.clamp(min=1).repeat_interleave(channels)
        truth = Truth(data=hr, lengths=lengths)
        if self.consistency:
            low = self.normaliser.hr.apply(self.normaliser.lr.invert(lr))
            truth = replace(truth, low=low, cutoff=given.cutoff)
        return truth, given


def chance_of(batch: Batch, seed: int, step: int, places: range, device: torch.device) -> Chance:
    """Chance of the samples that ``Feed`` makes of a batch.

    Args:
        batch: B crops.
        seed: of the training.
        step: of the optimizer.
        places: of the crops in the global batch.
        device: as of the feed.
    """
    return Chance(seed, step, places, device).repeated(batch.hr.shape[1])


def _with_text(
    given: Conditions, embedded: tuple[Tensor, Tensor, Tensor], channels: int
) -> Conditions:
    text, mask, has = (tensor.repeat_interleave(channels, 0) for tensor in embedded)
    device = given.low.device
    return replace(given, text=text.to(device), text_mask=mask.to(device), has_text=has.to(device))
