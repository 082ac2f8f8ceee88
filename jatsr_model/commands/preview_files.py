"""What ``jatsr preview --save`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from jatsr_data import Batch, LatentDataset
from jatsr_model.codecs import Codec, load
from jatsr_model.codecs.chunked import decode_chunked
from jatsr_model.codecs.of_dataset import codec_of
from jatsr_model.spectrogram import Panel, picture
from shards.errors import EnvironmentFailure

_CHUNK_FRAMES = 512


def open_saver(dataset: LatentDataset, folder: Path, weights: Path | None) -> Saver:
    """Load the codec of a dataset.

    Raises:
        ConfigError: its weights are missing, or are others than it was made with.
    """
    codec = load(codec_of(dataset.manifest, weights))
    return Saver(codec, torch.from_numpy(dataset.silence), folder)


@dataclass(frozen=True, eq=False)
class Saver:
    """Writes crops as sound and pictures.

    Attributes:
        codec: of the dataset.
        silence: the codec's frame of silence, ``[rows, 1]``.
        folder: where to; it is made when it is needed.
    """

    codec: Codec
    silence: Tensor
    folder: Path

    def save(self, number: int, batch: Batch, row: Mapping[str, Any]) -> list[str]:
        """Write one crop.

        Args:
            number: of the crop; begins the names of its files.
            batch: the crop alone.
            row: what ``preview.describe`` says of it.

        Returns:
            names of the files.

        Raises:
            EnvironmentFailure: the folder cannot be written to.
        """
        stem = f"{number:02d}_{row['key'].replace('/', '_')}"
        waves = {
            name: sound_of(self.codec, stored[0], self.silence, row["frames"])
            for name, stored in (("hr", batch.hr), ("lr", batch.lr))
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._write(stem, waves, row)
        except (OSError, soundfile.LibsndfileError) as error:
            raise EnvironmentFailure(
                f"--save {self.folder}: cannot be written to: {error}",
                hint="name a folder that you may write to, on a disk with room",
            ) from error

    def _write(
        self, stem: str, waves: Mapping[str, NDArray[np.float32]], row: Mapping[str, Any]
    ) -> list[str]:
        rate = self.codec.sample_rate
        titles = {
            "hr": f"hr  {row['key']} from {row['start_seconds']:.2f} s",
            "lr": f"lr{row['variant']}  {row['low_res']}",
        }
        panels = []
        for name, wave in waves.items():
            soundfile.write(self.folder / f"{stem}_{name}.wav", wave.T, rate, subtype="FLOAT")
            hertz = row[f"rolloff_{name}_hz"]
            panels.append(Panel(wave, titles[name], {f"roll-off {hertz / 1000:.2f} kHz": hertz}))
        picture(panels, rate).save(self.folder / f"{stem}.png")
        return [*(f"{stem}_{name}.wav" for name in waves), f"{stem}.png"]


def sound_of(codec: Codec, stored: Tensor, silence: Tensor, frames: int) -> NDArray[np.float32]:
    """Decode the first frames of a crop, as if there were silence on both sides of it.

    Args:
        codec: any.
        stored: ``[channels, rows, T]``.
        silence: the codec's frame of silence, ``[rows, 1]``.
        frames: valid ones.

    Returns:
        float32 ``[channels, frames * hop]``.
    """
    context = codec.decode_context
    edge = silence.expand(len(stored), -1, context)
    with torch.inference_mode():
        z = codec.latents(torch.cat([edge, stored, edge], dim=-1))
        wave = decode_chunked(codec, z, _CHUNK_FRAMES)
    first = context * codec.hop
    found: NDArray[np.float32] = wave[:, first : first + frames * codec.hop].cpu().numpy()
    return found
