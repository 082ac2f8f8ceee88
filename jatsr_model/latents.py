"""From normalised latents, such as networks make, to sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from jatsr_data import Normaliser
from jatsr_model.codecs import Codec, load
from jatsr_model.codecs.chunked import decode_chunked
from jatsr_model.codecs.of_dataset import codec_of
from shards.errors import ConfigError
from shards.manifest import Manifest

CHUNK_FRAMES = 512


@runtime_checkable
class UnprojectingCodec(Protocol):
    """What is needed of a codec for the space "projected"."""

    def unproject(self, vectors: Tensor) -> Tensor:
        """Projections ``[..., P, T]`` -> latents, float32 ``[..., D, T]``."""
        ...


def codec_on(device: torch.device | str, manifest: Manifest, weights: Path | None = None) -> Codec:
    """The codec of a dataset, to decode on a device; its encoder is not meant to be used.

    Args:
        device: such as ``cuda:1``.
        manifest: of the dataset.
        weights: where its weights are; None for the usual places.

    Raises:
        ConfigError: as ``codec_of``.
        WeightsError: as ``load``.
    """
    return load(replace(codec_of(manifest, weights), device=str(device)))


class LatentDecoder:
    """Normalised latents -> audio, in the space of a normaliser.

    Everything is float32, also inside autocast.

    Args:
        codec: of the dataset, on the device where it should run.
        normaliser: says in which space, and with which scales.
        chunk_frames: more frames than this are decoded piece by piece, which bounds memory and
            changes nothing but rounding.

    Raises:
        ConfigError: the codec does not have the space.
    """

    def __init__(
        self, codec: Codec, normaliser: Normaliser, chunk_frames: int = CHUNK_FRAMES
    ) -> None:
        self.codec, self.normaliser, self.chunk_frames = codec, normaliser, chunk_frames
        self._latents = _mapping(codec, normaliser)

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return self.codec.hop

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.codec.sample_rate

    def __call__(self, data: Tensor) -> Tensor:
        """Decode normalised high-res latents; differentiable.

        The signal has hard edges: within ``codec.decode_context`` frames of them a crop does not
        sound as it does inside its track.

        Args:
            data: ``[..., D, T]``.

        Returns:
            float32 ``[..., T * hop]`` on the codec's device; for codecs without weights on that of
            the data.

        Raises:
            ConfigError: latents of another width.
        """
        return self._decode(data, self.normaliser.hr.invert)

    def low(self, data: Tensor) -> Tensor:
        """The same of normalised low-res latents, such as ``Conditions.low``."""
        return self._decode(data, self.normaliser.lr.invert)

    @torch.no_grad()
    def stored(self, frames: Tensor) -> Tensor:
        """Decode stored frames, such as ``Batch.hr`` and ``Batch.lr``.

        Args:
            frames: ``[..., rows, T]``.

        Returns:
            float32 ``[..., T * hop]``.
        """
        with _no_autocast(frames):
            return decode_chunked(self.codec, self.codec.latents(frames), self.chunk_frames)

    def _decode(self, data: Tensor, invert: Callable[[Tensor], Tensor]) -> Tensor:
        with _no_autocast(data):
            z = self._latents(invert(data.float()))
            return decode_chunked(self.codec, z, self.chunk_frames)


def _no_autocast(near: Tensor) -> torch.autocast:
    return torch.autocast(near.device.type, enabled=False)


def _mapping(codec: Codec, normaliser: Normaliser) -> Callable[[Tensor], Tensor]:
    if normaliser.space == "latents":
        return lambda z: z
    if not isinstance(codec, UnprojectingCodec):
        raise ConfigError(
            f"space='{normaliser.space}': codec {codec.name} has no projections",
            hint="use space='latents'; only Descript Audio Codec has projections",
        )
    return codec.unproject
