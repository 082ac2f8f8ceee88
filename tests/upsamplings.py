"""Small models with random weights, and files to upsample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from sounds import tilted

from jatsr_data import Normaliser
from jatsr_data.normalise import Scale
from jatsr_model.audio.resample import Resampler
from jatsr_model.codecs import CodecConfig, encode, load, resolve
from jatsr_model.dit import DiT, preset
from jatsr_model.model_folder import Card, save_network

CROP = 64


def random_model(
    folder: Path, name: str = "mdct-xs", shape: Mapping[str, Any] | None = None, **latents: Any
) -> Path:
    """A model folder as a training would leave it; the network makes noise of the right level."""
    torch.manual_seed(0)
    known = preset(name)
    config = replace(known.config, **(shape or {}))
    network = DiT(config)
    for module in network.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.05)
    is_mdct = known.space == "mdct"
    spec = resolve(CodecConfig(name="mdct" if is_mdct else "dac-44khz-untrained", device="cpu"))
    facts = {"latent_dim": spec.latent_dim, "stored_rows": spec.stored_rows,
             "stored_dtype": spec.stored_dtype}  # fmt: skip
    card = Card(
        model=known.name,
        config=config,
        prediction=known.prediction,
        origin={"recipe": {"condition_dropout": 0.1}},
        latents={
            "space": known.space,
            "codec": {**spec.identity, **facts},
            "scales": _mdct_scales() if is_mdct else _dac_scales(),
            "crop_frames": CROP,
            "low_res": ["sinc:16000"],
            "loudness": {"target_lufs": -16.0, "ceiling": 1.0, "silence_lufs": -60.0},
            "text_encoder": "",
            **latents,
        },
    )
    save_network(folder, network, card)
    return folder


def _mdct_scales() -> dict[str, Any]:
    """Of noise; high-res latents are made louder, since such a network is too timid."""
    codec = load(resolve(CodecConfig(name="mdct")))
    stored = encode(codec, tilted(2.0, 3.0, seed=1))
    z = codec.latents(torch.from_numpy(stored)).transpose(0, 1).flatten(1)
    mean, std = z.mean(1), z.std(1).clamp(min=1e-3)
    return _lists(Normaliser(codec, "latents", Scale(mean, 2 * std), Scale(mean, std)))


def _dac_scales() -> dict[str, Any]:
    scale = {"mean": [0.0] * 72, "std": [1.0] * 72}
    found = {f"{name}.{field}": values for name in ("hr", "lr") for field, values in scale.items()}
    return {"space": "projected", **found}


def _lists(normaliser: Normaliser) -> dict[str, Any]:
    """As in a card."""
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in normaliser.state().items()
    }


def dull(seconds: float, rate: int, channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """Noise that ends with the rate, ``[channels, n]``, of which no two channels are the same."""
    return tilted(seconds, 3.0, rate=rate, channels=channels, seed=seed)


def write(path: Path, signal: NDArray[Any], rate: int, subtype: str = "FLOAT") -> Path:
    """A file of ``[channels, n]``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, rate, subtype=subtype)
    return path


def read(path: Path) -> tuple[NDArray[np.float32], int]:
    """``[channels, n]`` and rate."""
    signal, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return signal.T, rate


def resampled(signal: NDArray[np.float32], rate: int, to: int) -> NDArray[np.float32]:
    """``[channels, n]`` as a whole, as upsampling resamples what it keeps."""
    resampler = Resampler(rate, to, len(signal))
    return np.concatenate([resampler.push(signal), resampler.flush()], axis=1)
