"""A model folder as upsampling needs it: network, codec, scales, and what they can do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jatsr_data import Normaliser
from jatsr_data.normalise import ProjectingCodec
from jatsr_model.codecs import Codec, load
from jatsr_model.codecs.of_dataset import codec_of
from jatsr_model.dit import DiT
from jatsr_model.latents import LatentDecoder
from jatsr_model.model_folder import Card, ModelError, load_network, read_card
from jatsr_model.sampling.guidance import LEAST_MET
from jatsr_model.training.environment import Place, device_of
from shards.errors import FormatError
from shards.manifest import Manifest

TARGET_HZ = 15_000.0  # a usual roll-off of music at full bandwidth
_DAC_WINDOW = 528  # frames of one encode window; for the embedded codec as it is
_ENCODE_BATCH = {"cpu": 1, "cuda": 2}  # a file is encoded by itself, and has two channels mostly


@dataclass(frozen=True, eq=False)
class Model:
    """What turns low-res latents into sound.

    Attributes:
        name: for people.
        digest: sha256 of the weights.
        network: on the device, in evaluation mode.
        card: what it is.
        decoder: with codec and normaliser, on the device.
    """

    name: str
    digest: str
    network: DiT
    card: Card
    decoder: LatentDecoder

    @property
    def codec(self) -> Codec:
        """Encodes and decodes."""
        return self.decoder.codec

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def crop_frames(self) -> int:
        """Length of the crops that it was trained on."""
        return int(self.card.latents["crop_frames"])

    @property
    def target_lufs(self) -> float | None:
        """Loudness of one channel of what it was trained on; None if that was left as it was.

        Loudness is that of all channels together, and a network hears them one by one.
        """
        level = (self.card.latents.get("loudness") or {}).get("target_lufs")
        if level is None:
            return None
        channels = 2 if self.card.latents.get("channels") == "stereo" else 1
        return float(level) - 10 * math.log10(channels)

    @property
    def condition_dropout(self) -> float:
        """How often a condition was left out in training; 0 where this is not known."""
        recipe: Mapping[str, Any] = self.card.origin.get("recipe") or {}
        return float(recipe.get("condition_dropout", 0.0))

    @property
    def tells_envelopes(self) -> bool:
        """Whether sound is made of an envelope, in one step, and not by a flow."""
        return self.card.prediction == "envelope"

    @property
    def has_rolloff(self) -> bool:
        """Whether roll-offs are a condition."""
        return bool(self.network.config.rolloff_dim)

    def told_hz(self, asked: float | None) -> float | None:
        """The roll-off that it is told where ``asked`` is asked for; None to tell it none.

        A network for envelopes that was often told none knows by itself what is likely.
        """
        guesses = self.tells_envelopes and self.condition_dropout >= LEAST_MET
        if not self.has_rolloff or (asked is None and guesses):
            return None
        return TARGET_HZ if asked is None else asked

    @torch.no_grad()
    def low(self, stored: NDArray[Any]) -> Tensor:
        """Normalised low-res latents: ``[C, rows, T]`` as encoded -> float32 ``[C, D, T]``."""
        normaliser, codec = self.decoder.normaliser, self.codec
        dtype = np.int64 if np.issubdtype(stored.dtype, np.integer) else stored.dtype
        frames = torch.from_numpy(stored.astype(dtype)).to(self.device)
        if normaliser.space == "projected" and isinstance(codec, ProjectingCodec):
            return normaliser.lr.apply(codec.projected(frames))
        return normaliser.lr.apply(codec.latents(frames))

    @torch.no_grad()
    def decode(self, data: Tensor) -> NDArray[np.float32]:
        """Sound of normalised latents: ``[C, D, T]`` -> ``[C, T * hop]`` on the CPU."""
        wave: NDArray[np.float32] = self.decoder(data).cpu().numpy()
        return wave


def device_for(wanted: str) -> torch.device:
    """Where a model runs.

    Args:
        wanted: ``cpu``, ``cuda``, ``cuda:1``; empty for the best there is.

    Raises:
        ConfigError: there is no such device.
    """
    return device_of(wanted, Place())


def model_digest(folder: Path) -> str:
    """The sha256 of the weights that the card of a model folder states.

    Raises:
        ModelError: there is no card.
    """
    return read_card(folder)[1]


def load_model(
    folder: Path, device: torch.device | str = "cpu", codec_weights: Path | None = None
) -> Model:
    """Everything that a model folder says.

    Args:
        folder: written by a training.
        device: of network and codec.
        codec_weights: where those of the codec are; None for the usual places.

    Raises:
        ModelError: there is no such model, it is damaged, or does not say of which latents it is.
        ConfigError: the codec is another one than it was trained with.
        WeightsError: the codec's weights are missing or damaged.
    """
    network, card = load_network(folder)
    where = torch.device(device)
    missing = [name for name in ("codec", "scales", "crop_frames") if name not in card.latents]
    if missing:
        raise ModelError(
            f"--model {folder}: its card says nothing of {', '.join(missing)} of its latents",
            hint="name a checkpoint of jatsr train, such as runs/NAME/checkpoints/best; networks "
            "imported from elsewhere have to be trained on here first: jatsr train --start",
        )
    codec = _codec(card.latents["codec"], where, codec_weights)
    try:
        normaliser = Normaliser.from_state(card.latents["scales"], codec)
    except FormatError as error:
        raise ModelError(f"--model {folder}: {error.message}", hint="copy it again") from error
    width = len(normaliser.hr.mean)
    if width != network.config.latent_dim:
        raise ModelError(
            f"--model {folder}: the network takes latents of {network.config.latent_dim} channels, "
            f"the scales are of {width}",
            hint="copy it again",
        )
    return Model(
        name=card.model or folder.name,
        digest=model_digest(folder),
        # Autocast keeps the weights it has cast only if they require gradients.
        network=network.to(where).eval(),
        card=card,
        decoder=LatentDecoder(codec, normaliser),
    )


def _codec(identity: Mapping[str, Any], device: torch.device, weights: Path | None) -> Codec:
    dataset = Manifest(fingerprint="", config={"codec": identity}, splits={}, files={})
    spec = codec_of(dataset, weights)
    if spec.name != "mdct":
        spec = replace(
            spec,
            device=str(device),
            window_frames=_DAC_WINDOW,
            batch_size=_ENCODE_BATCH.get(device.type, 1),
        )
    return load(spec)
