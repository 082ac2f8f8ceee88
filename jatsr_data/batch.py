"""What a trainer gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B crops of T frames.

    Attributes:
        hr: stored frames of the high-res signal, ``[B, channels, rows, T]``: uint16 codes or
            float16 coefficients. Frames beyond the end of an excerpt are the codec's silence.
        lr: the same frames of a low-res variant.
        rolloff_hr: float32 ``[B]``, of the valid frames, as a fraction of the Nyquist frequency.
        rolloff_lr: the same of the low-res signal.
        cutoff: float32 ``[B]``, up to where the low-res excerpt is as loud as the high-res one, in
            the same units; 1 where nothing is lost.
        start: int64 ``[B]``, first frame of the crop in its excerpt.
        frames: int64 ``[B]``, valid frames; 0 marks what only fills up the last batch.
        variant: int64 ``[B]``, low-res variant.
        caption: what it sounds like; may be empty.
        key: of the sample; empty for what only fills up.
    """

    hr: Tensor
    lr: Tensor
    rolloff_hr: Tensor
    rolloff_lr: Tensor
    cutoff: Tensor
    start: Tensor
    frames: Tensor
    variant: Tensor
    caption: tuple[str, ...]
    key: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.key)

    @cached_property
    def mask(self) -> Tensor:
        """Bool ``[B, T]``: which frames are valid."""
        places = torch.arange(self.hr.shape[-1], device=self.frames.device)
        return places < self.frames[:, None]

    def rows(self, numbers: Sequence[int]) -> Batch:
        """Some of the crops; a range of neighbours stays where it is in memory."""
        near = isinstance(numbers, range) and numbers.step == 1
        where = slice(numbers[0], numbers[-1] + 1) if near else torch.tensor(numbers)
        some = self._each(lambda tensor: tensor[where])
        return replace(
            some,
            caption=tuple(self.caption[number] for number in numbers),
            key=tuple(self.key[number] for number in numbers),
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The batch on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in memory from which copies to a GPU run beside other work."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {k: change(v) for k, v in columns.items() if isinstance(v, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Part:
    """Crops of a batch, on their way from the process that read them.

    Attributes:
        position: of the first crop in the epoch.
        stored: high- and low-res frames, ``[2, n, channels, rows, T]``.
        rolloff: float32 ``[2, n]``, of both.
        cutoff: float32 ``[n]``.
        places: int64 ``[3, n]``: start, frames and variant.
        caption: of each.
        key: of each.
    """

    position: int
    stored: NDArray[Any]
    rolloff: NDArray[np.float32]
    cutoff: NDArray[np.float32]
    places: NDArray[np.int64]
    caption: Sequence[str]
    key: Sequence[str]


def merged(parts: Sequence[Part], slots: Sequence[slice], *, pin: bool = False) -> Batch:
    """The batch of several parts, each of which goes to its own places of the whole.

    Args:
        parts: what is put together.
        slots: where to; together they cover the whole exactly once.
        pin: in pinned memory.
    """
    size = sum(len(part.key) for part in parts)
    stored = torch.from_numpy(parts[0].stored)
    if len(parts) > 1 or pin:
        shape = (2, size, *stored.shape[2:])
        stored = torch.empty(shape, dtype=stored.dtype, pin_memory=pin)
        whole = stored.numpy()  # numpy copies in this thread, whatever torch is busy with
        for part, slot in zip(parts, slots, strict=True):
            whole[:, slot] = part.stored
    rolloff = np.empty((2, size), np.float32)
    cutoff = np.empty(size, np.float32)
    places = np.empty((3, size), np.int64)
    caption, key = [""] * size, [""] * size
    for part, slot in zip(parts, slots, strict=True):
        rolloff[:, slot], places[:, slot] = part.rolloff, part.places
        cutoff[slot] = part.cutoff
        caption[slot], key[slot] = part.caption, part.key
    hr, lr = stored
    rolloff_hr, rolloff_lr = torch.from_numpy(rolloff)
    start, frames, variant = torch.from_numpy(places)
    return Batch(
        hr, lr, rolloff_hr, rolloff_lr, torch.from_numpy(cutoff), start, frames, variant,
        tuple(caption), tuple(key),
    )  # fmt: skip
