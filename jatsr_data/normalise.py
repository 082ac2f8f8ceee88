"""From stored frames to latents of mean 0 and variance 1, or less in channels with little in them.

Means and standard deviations come from the statistics of the whole ``train`` split, whatever is
read. Those of the low-res signal are of all its variants together: which one it is cannot be known
when a model is used.

No channel is divided by less than ``FLOOR`` of the largest standard deviation. Where sources end
early (32 kHz, MP3), the upper channels of the embedded codec hold little but 16-bit rounding: at
unit variance it would be noise that nobody can learn.

Nor is a low-res channel divided by less than the high-res one. Above its cutoff it holds only what
rounding and the resampler leave. At unit variance that would be noise, and what another resampler
leaves would be tens of standard deviations when a model is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from jatsr_data.batch import Batch
from jatsr_data.dataset import LatentDataset
from shards.errors import ConfigError, FormatError
from shards.layout import PROJECTED, stream_names
from shards.manifest import read_manifest
from shards.moments import Moments, merge_all
from shards.statistics import read_totals
from shards.storage import StoreLike, open_store

Space = Literal["latents", "projected"]

FLOOR = 5e-3


class LatentCodec(Protocol):
    """What is needed of a codec."""

    def latents(self, stored: Tensor) -> Tensor:
        """Stored frames ``[..., rows, T]`` -> float32 ``[..., D, T]`` on their device."""
        ...


@runtime_checkable
class ProjectingCodec(Protocol):
    """What is needed of a codec for the space "projected"."""

    def projected(self, stored: Tensor) -> Tensor:
        """Stored frames ``[..., rows, T]`` -> float32 ``[..., D, T]`` on their device."""
        ...


class Scale:
    """Mean and standard deviation of D channels, on every device where they were needed.

    Args:
        mean: float ``[D]``.
        std: float ``[D]``, all above 0.

    Raises:
        FormatError: numbers that are not finite, or a standard deviation that is not above 0.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        if mean.shape != std.shape:
            raise ValueError(f"{len(mean)} means, {len(std)} standard deviations")
        with torch.inference_mode(False):  # kept: must also serve callers that differentiate
            self.mean, self.std = (
                v.to("cpu", torch.float32, copy=True)[:, None] for v in (mean, std)
            )
        if not (self.mean.isfinite() & self.std.isfinite() & (self.std > 0)).all():
            raise FormatError(
                "expected finite means and standard deviations above 0, found others",
                hint="the statistics or the checkpoint are damaged; jatsr verify checks a dataset",
            )
        self._tables = {self.mean.device: (self.mean, self.std)}

    @staticmethod
    def of(moments: Moments) -> Scale:
        """The scale of what the moments describe.

        Standard deviations are at least ``FLOOR`` of the largest; 1 where no channel varies by more
        than float32 can tell.
        """
        std = np.sqrt(moments.variance)
        largest = np.maximum(np.abs(moments.min), np.abs(moments.max))
        std[std <= largest * np.finfo(np.float32).eps] = 0
        floor = FLOOR * std.max() or 1.0
        return Scale(torch.from_numpy(moments.mean), torch.from_numpy(std.clip(min=floor)))

    def at_least(self, other: Scale) -> Scale:
        """The same means; no standard deviation is smaller than the other's."""
        return Scale(self.mean[:, 0], self.std.maximum(other.std)[:, 0])

    def apply(self, z: Tensor) -> Tensor:
        """Normalise ``[..., D, T]`` on its device; float32, or float64 if z is."""
        mean, std = self._on(z)
        return (z - mean) / std

    def invert(self, z: Tensor) -> Tensor:
        """Undo ``apply``, up to rounding."""
        mean, std = self._on(z)
        return z * std + mean

    def _on(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if z.dim() < 2 or z.shape[-2] != len(self.mean):
            raise ConfigError(
                f"expected latents [..., {len(self.mean)}, T], as the statistics are of, "
                f"found {list(z.shape)}",
                hint="statistics and codec have to be of the same dataset and space",
            )
        if z.device not in self._tables:
            with torch.inference_mode(False):
                self._tables[z.device] = (self.mean.to(z.device), self.std.to(z.device))
        return self._tables[z.device]


class Normaliser:
    """Stored frames -> normalised latents, on the device where the frames are.

    Codes are trusted, since the hash of what is read was compared: one outside the codebook raises
    an ``IndexError`` or ``RuntimeError`` of torch on the CPU, and on a GPU stops the process at
    its next synchronisation.

    Args:
        codec: of the dataset.
        space: "latents" (z), or "projected", where the codec has it (DAC: the 72 numbers per
            frame of which z is a linear function).
        hr: scale of the high-res signal.
        lr: scale of the low-res signal.

    Raises:
        ConfigError: the codec does not have the space.
    """

    def __init__(self, codec: LatentCodec, space: Space, hr: Scale, lr: Scale) -> None:
        self.space, self.hr, self.lr = space, hr, lr
        self._latents = _mapping(codec, space)

    @staticmethod
    def read(
        dataset: LatentDataset | StoreLike, codec: LatentCodec, space: Space = "latents"
    ) -> Normaliser:
        """Take the scales from a dataset: its manifest and a few small files are read.

        The low-res scale is at least the high-res one.

        Raises:
            ConfigError: the codec does not have the space, or ``train`` is empty.
            FormatError: there is no readable dataset, or it has no statistics of the space.
        """
        _mapping(codec, space)
        if isinstance(dataset, LatentDataset):
            store, manifest = dataset.store, dataset.manifest
        else:
            store = open_store(dataset)
            manifest = read_manifest(store)
        totals = read_totals(store, "train")
        if not totals:
            raise ConfigError(
                f"{store.url}: split 'train' is empty, and normalisation needs its statistics",
                hint="build with more tracks or a smaller --val-fraction",
            )
        suffix = PROJECTED if space == "projected" else ""
        names = [stream + suffix for stream in stream_names(manifest.variants)]
        missing = [name for name in names if name not in totals]
        if missing:
            raise FormatError(
                f"{store.url}: expected statistics of {', '.join(names)}, "
                f"found none of {', '.join(missing)}",
                hint="run the same jatsr build command again: it derives them from the shards",
            )
        first, *others = (totals[name] for name in names)
        hr, lr = Scale.of(first), Scale.of(merge_all(others, len(first.mean)))
        return Normaliser(codec, space, hr, lr.at_least(hr))

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """High- and low-res latents, each float32 ``[B, channels, D, T]``."""
        return self.hr.apply(self._latents(batch.hr)), self.lr.apply(self._latents(batch.lr))

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the space and four float32 tensors ``[D]`` on the CPU."""
        scales = {"hr": self.hr, "lr": self.lr}
        tensors = {
            f"{name}.{field}": getattr(scale, field).flatten().clone()
            for name, scale in scales.items()
            for field in ("mean", "std")
        }
        return {"space": self.space, **tensors}

    @staticmethod
    def from_state(state: Mapping[str, Any], codec: LatentCodec) -> Normaliser:
        """Rebuild what ``state`` described; the tensors may also be lists, as from JSON.

        Raises:
            FormatError: this is no such state.
            ConfigError: the codec does not have the space.
        """
        try:
            space = state["space"]
            hr, lr = (
                Scale(*(torch.as_tensor(state[f"{name}.{field}"]) for field in ("mean", "std")))
                for name in ("hr", "lr")
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FormatError(
                f"expected the state of a normaliser, found something else ({error!r})",
                hint="pass what Normaliser.state() returned",
            ) from error
        return Normaliser(codec, space, hr, lr)


def _mapping(codec: LatentCodec, space: Space) -> Callable[[Tensor], Tensor]:
    if space not in get_args(Space):
        raise ConfigError(f"space={space!r}: expected 'latents' or 'projected'")
    if space == "latents":
        return codec.latents
    if not isinstance(codec, ProjectingCodec):
        name = getattr(codec, "name", type(codec).__name__)
        raise ConfigError(
            f"space='projected': codec {name} has no projections",
            hint="use space='latents'; only Descript Audio Codec has projections",
        )
    return codec.projected
