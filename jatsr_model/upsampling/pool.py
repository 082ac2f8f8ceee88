"""Windows of many files in batches of one shape.

On a GPU all batches have one shape: what is missing is filled up. A window's result then depends on
its neighbours by no more than rounding. On a CPU, where batches gain nothing, every window is
computed by itself: its result is the same to the last bit, whatever it waited with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from jatsr_model.dit import Conditions
from jatsr_model.sampling import fill, sample, time_grid
from jatsr_model.text import Embedded
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.settings import STEPS, Settings
from shards.errors import EnvironmentFailure


@dataclass(eq=False)
class Request:
    """A window to be sampled.

    Attributes:
        low: normalised low-res latents ``[U, D, T]`` on the device: of the U different channels.
        noise: float32 ``[U, D, T]``, as much alike as the channels are; for an envelope, what it is
            filled with.
        rolloff: of the input and of the target, as shares of the Nyquist frequency; None for a
            target that is not told.
        cutoff: where the input ends, as a share of it.
        rows: sampled channels so far, ``[D, T]`` each; None where one is still to come.
    """

    low: Tensor
    noise: Tensor
    rolloff: tuple[float, float | None]
    cutoff: float
    rows: list[Tensor | None] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is done yet."""
        self.rows = [None] * len(self.low)

    @property
    def is_done(self) -> bool:
        """Whether all channels are there; so it is where there are none."""
        return all(row is not None for row in self.rows)

    @property
    def data(self) -> Tensor:
        """Sampled latents ``[U, D, T]``."""
        return torch.stack([row for row in self.rows if row is not None])


class _Slot(NamedTuple):
    request: Request
    row: int


class Pool:
    """Collects windows and samples them.

    Args:
        model: what samples them.
        settings: how.
        window: frames of a full window.
        text: an embedded prompt, a batch of one; None for none.

    Attributes:
        together: whether a batch is one call of the network.
    """

    def __init__(
        self, model: Model, settings: Settings, window: int, text: Embedded | None = None
    ) -> None:
        self._model, self._settings, self._window, self._text = model, settings, window, text
        self._times = time_grid(settings.grid, settings.steps or STEPS)
        self.together = model.device.type != "cpu"
        # Whole windows and those of signals that end before: kernels with a mask round otherwise.
        self._waiting: dict[bool, list[_Slot]] = {True: [], False: []}

    def add(self, request: Request) -> None:
        """Take a window; one batch or more may be sampled."""
        waiting = self._waiting[request.low.shape[-1] == self._window]
        waiting += [_Slot(request, row) for row in range(len(request.low))]
        while len(waiting) >= self._settings.batch_size:
            self._take(waiting)

    def flush(self) -> None:
        """Sample whatever is waiting."""
        for waiting in self._waiting.values():
            while waiting:
                self._take(waiting)

    def forget(self, requests: Collection[Request]) -> None:
        """Do not sample these any more."""
        unwanted = {id(request) for request in requests}
        for waiting in self._waiting.values():
            waiting[:] = [slot for slot in waiting if id(slot.request) not in unwanted]

    def _take(self, waiting: list[_Slot]) -> None:
        size = self._settings.batch_size
        slots, waiting[:] = waiting[:size], waiting[size:]
        try:
            if self.together:
                found = self._sample(slots + slots[-1:] * (size - len(slots)))
            else:
                found = torch.cat([self._sample([slot]) for slot in slots])
        except torch.OutOfMemoryError as error:
            raise EnvironmentFailure(
                f"out of memory while sampling {size} windows of {self._window} frames",
                hint="use a smaller --batch-size or --window-frames, or --device cpu; the same "
                "command then goes on",
            ) from error
        for slot, row in zip(slots, found, strict=False):
            slot.request.rows[slot.row] = row[:, : slot.request.low.shape[-1]]

    def _sample(self, slots: Sequence[_Slot]) -> Tensor:
        """``[B, D, window]`` of as many slots."""
        model, settings, device = self._model, self._settings, self._model.device
        low = torch.stack([self._padded(slot.request.low[slot.row]) for slot in slots])
        drawn = [self._padded(slot.request.noise[slot.row]) for slot in slots]
        frames = [slot.request.low.shape[-1] for slot in slots]
        short = any(count < self._window for count in frames)
        noise, given = torch.stack(drawn).to(device), self._conditions(slots, low)
        lengths = torch.tensor(frames, device=device) if short else None
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            if model.tells_envelopes:
                return fill(model.network, model.decoder.normaliser, given, noise, lengths)
            return sample(
                model.network,
                model.card.prediction,
                given,
                noise,
                steps=self._times,
                solver=settings.solver,
                guidance=settings.guided,
                lengths=lengths,
            )

    def _conditions(self, slots: Sequence[_Slot], low: Tensor) -> Conditions:
        device, count = low.device, len(slots)
        cutoffs = [slot.request.cutoff for slot in slots]
        given = Conditions(low=low, cutoff=torch.tensor(cutoffs, device=device))
        if self._model.has_rolloff:
            pairs = [slot.request.rolloff for slot in slots]
            told = torch.tensor([[True, target is not None] for _, target in pairs], device=device)
            values = torch.tensor([(own, target or 0.0) for own, target in pairs], device=device)
            given = replace(given, rolloff=values, has_rolloff=told)
        if self._text is None:
            return given
        text, mask, has = (part.to(device).expand(count, *part.shape[1:]) for part in self._text)
        return replace(given, text=text, text_mask=mask, has_text=has)

    def _padded(self, frames: Tensor) -> Tensor:
        return functional.pad(frames, (0, self._window - frames.shape[-1]))
