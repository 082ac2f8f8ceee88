"""Building the DAC network: its shape, its trained weights, or seeded random ones."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from jatsr_model.codecs.descript import fold_weight_norm, to_transformers
from jatsr_model.codecs.weights import Layout, WeightsError

if TYPE_CHECKING:
    from transformers import DacConfig, DacModel

_SHAPE_FIELDS = (
    "sampling_rate",
    "encoder_hidden_size",
    "decoder_hidden_size",
    "downsampling_ratios",
    "n_codebooks",
    "codebook_size",
    "codebook_dim",
)


def config_44khz() -> DacConfig:
    """The 44.1 kHz, 8 kbps network: 76.62 M parameters, hop 512, nine codebooks of 1024."""
    from transformers import DacConfig

    return DacConfig(
        encoder_hidden_size=64,
        downsampling_ratios=[2, 4, 8, 8],
        decoder_hidden_size=1536,
        n_codebooks=9,
        codebook_size=1024,
        codebook_dim=8,
        sampling_rate=44_100,
    )


def build(config: DacConfig, state: Mapping[str, Tensor], origin: str) -> DacModel:
    """The network with exactly these weights, in evaluation mode, without gradients.

    Args:
        config: the shape.
        state: float tensors by their names in ``DacModel``, none missing, none left over.
        origin: what to name in an error: the file.

    Raises:
        WeightsError: names or shapes differ.
    """
    from transformers import DacModel

    with torch.device("meta"):  # neither memory nor the global random generator is touched
        model = DacModel(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if expected != found:
        raise WeightsError(
            f"{origin} does not fit the {config.sampling_rate} Hz network: "
            + _differences(expected, found),
            hint="use the weights of the 44.1 kHz, 8 kbps model (--codec-weights)",
        )
    model.load_state_dict({k: v.float() for k, v in state.items()}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    shapes = [
        f"{k}: {found[k]} instead of {expected[k]}"
        for k in sorted(expected.keys() & found.keys())
        if found[k] != expected[k]
    ]
    groups = {"missing": missing, "unexpected": extra, "of another shape": shapes}
    return "; ".join(
        f"{len(names)} {what} (such as {', '.join(names[:3])})"
        for what, names in groups.items()
        if names
    )


def read_state(path: Path, layout: Layout, config: DacConfig) -> dict[str, Tensor]:
    """Tensors of a weight file by their names in ``DacModel``, weight norm folded.

    Raises:
        WeightsError: the file is damaged, would need arbitrary code to load, or says that it
            belongs to another model.
    """
    if layout == "hf":
        _check_config(path.with_name("config.json"), config)
        return fold_weight_norm(_read_safetensors(path))
    checkpoint = _read_pickle(path)
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise WeightsError(
            f"{path} should be a dictionary with 'state_dict' and 'metadata'",
            hint="expected the original weights.pth of the DAC release (--codec-weights)",
        )
    rate = checkpoint.get("metadata", {}).get("kwargs", {}).get("sample_rate")
    if rate is not None and rate != config.sampling_rate:
        raise WeightsError(
            f"{path} is a {rate} Hz model, expected {config.sampling_rate} Hz",
            hint="use the weights of the 44.1 kHz, 8 kbps model (--codec-weights)",
        )
    return to_transformers(state, len(config.downsampling_ratios))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)  # type: ignore[no-any-return]
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or cut short: {error}", hint=_AGAIN) from error


_AGAIN = "fetch or copy the weights again: jatsr codec fetch --force, or --codec-weights PATH"


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged or holds more than tensors; loading it could run arbitrary code",
            hint="use the 'weights' form of the release, not a torch.package, or " + _AGAIN,
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or cut short: {error}", hint=_AGAIN) from error


def _check_config(path: Path, config: DacConfig) -> None:
    """Where a config.json lies beside the weights, it must describe this network."""
    import json

    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}", hint=_AGAIN) from error
    for field in _SHAPE_FIELDS:
        expected = getattr(config, field)
        expected = list(expected) if isinstance(expected, tuple | list) else expected
        if field in found and found[field] != expected:
            raise WeightsError(
                f"{path}: {field} is {found[field]}, expected {expected}",
                hint="use the weights of the 44.1 kHz, 8 kbps model (--codec-weights)",
            )


def untrained_state(config: DacConfig, seed: int) -> dict[str, Tensor]:
    """Random weights that depend on the seed alone and keep signals of ordinary size.

    Uniform numbers of a named numpy bit generator, which stays the same between versions; the
    scale keeps the variance through the depth of the network, so that codes vary with the input
    and the decoder's last tanh does not saturate.
    """
    from transformers import DacModel

    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in DacModel(config).state_dict().items()}
    generator = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name, shape in shapes.items():
        low, high = _range(name, shape)
        values = generator.random(shape, dtype=np.float32)
        state[name] = torch.from_numpy(values * np.float32(high - low) + np.float32(low))
    return state


def _range(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if name.endswith("alpha"):
        return 0.5, 2.0
    if name.endswith("bias"):
        return -0.02, 0.02
    if "codebook" in name:
        return -1.0, 1.0
    inputs = 2 * shape[0] if "conv_t1" in name else math.prod(shape[1:])
    gain = 0.3 if "res_unit" in name and "conv2" in name else 1.0
    gain = 0.1 if name == "decoder.conv2.weight" else gain
    bound = gain * math.sqrt(3 / inputs)
    return -bound, bound
