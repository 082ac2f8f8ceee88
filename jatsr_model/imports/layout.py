"""How the public JaTSR scripts name tensors, and the shape of a network that follows from them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jatsr_model.dit import DiTConfig
from jatsr_model.dit.rotary import BASE
from jatsr_model.model_folder import ModelError
from shards.errors import ConfigError

_RENAMED = (
    (r"patch_embed\.proj\.([02])\.", r"entry.project.\1."),
    (r"t_embedder\.1\.", "time.mlp.0."),
    (r"t_embedder\.3\.", "time.mlp.2."),
    (r"(blocks\.\d+)\.attn\.q_proj\.", r"\1.attention.query."),
    (r"(blocks\.\d+)\.attn\.k_proj\.", r"\1.attention.key."),
    (r"(blocks\.\d+)\.attn\.v_proj\.", r"\1.attention.value."),
    (r"(blocks\.\d+)\.attn\.out_proj\.", r"\1.attention.out."),
    (r"(blocks\.\d+)\.mlp\.0\.", r"\1.mlp.up."),
    (r"(blocks\.\d+)\.mlp\.3\.", r"\1.mlp.down."),
    (r"(blocks\.\d+)\.adaLN_modulation\.1\.", r"\1.modulation.project."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.attention_norm."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.mlp_norm."),
    (r"final_layer\.0\.", "head.norm."),
    (r"final_layer\.1\.", "head.project."),
)
_DERIVED = re.compile(r"blocks\.\d+\.attn\.rope\.(inv_freq|cos_cached|sin_cached)")
# torch.compile and DistributedDataParallel put these in front of every name
_PREFIXES = re.compile(r"(module\.|_orig_mod\.)+")
_CONFIG_KEYS = {
    "input_channels": "latent_dim",
    "cond_channels": "latent_dim",
    "patch_len": "patch",
    "hidden_size": "hidden",
    "depth": "depth",
    "num_q_heads": "heads",
    "num_kv_heads": "kv_heads",
    "bottleneck_dim": "bottleneck",
    "dropout": "dropout",
    "drop_path_rate": "drop_path",
}
PATCH = 4


def split_state(
    found: Mapping[Any, Any], path: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors by their names in the original: weights, and what follows from them.

    Raises:
        ModelError: something is no tensor of finite numbers, or is there twice.
    """
    state: dict[str, Tensor] = {}
    for given, value in found.items():
        if not isinstance(given, str) or not isinstance(value, Tensor):
            raise ModelError(f"{path}: {given} is no tensor", hint="copy it again")
        name = _PREFIXES.sub("", given, count=1)
        if name in state:
            raise ModelError(
                f"{path}: {name} is there twice, under two prefixes",
                hint="the file was put together from two networks; take the original one",
            )
        state[name] = value
        _check_numbers(name, value, path)
    derived = {name: value for name, value in state.items() if _DERIVED.fullmatch(name)}
    return {name: value for name, value in state.items() if name not in derived}, derived


def _check_numbers(name: str, value: Tensor, path: Path) -> None:
    dense = value.layout == torch.strided and value.device.type == "cpu"
    if not (dense and value.is_floating_point()):
        kind = f"{value.dtype}, {value.layout} on {value.device}"
        raise ModelError(f"{path}: {name} is {kind}, expected plain floats", hint="copy it again")
    if not value.float().isfinite().all():
        raise ModelError(
            f"{path}: {name} holds infinite numbers or NaN",
            hint="copy it again, or take the checkpoint of an earlier epoch",
        )


def rename(name: str) -> str | None:
    """Our name of a tensor; None for a name that is not theirs."""
    for pattern, replacement in _RENAMED:
        renamed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return renamed
    return None


def config_of(
    state: Mapping[str, Tensor], derived: Mapping[str, Tensor], said: object, path: Path
) -> DiTConfig:
    """The shape of the network, from the shapes of its tensors; what the file says must agree.

    Raises:
        ModelError: it is no network that we know, or the file contradicts itself.
    """
    numbers = _numbers(said)
    try:
        frequencies = derived["blocks.0.attn.rope.inv_freq"]
        hidden, bottleneck = state["patch_embed.proj.2.weight"].shape
        head_dim = 2 * len(frequencies)
        patch = int(numbers.get("patch_len", PATCH))
        config = DiTConfig(
            latent_dim=state["final_layer.1.weight"].shape[0] // patch,
            hidden=hidden,
            depth=_depth([*state, *derived]),
            heads=hidden // head_dim,
            kv_heads=state["blocks.0.attn.k_proj.weight"].shape[0] // head_dim,
            mlp_hidden=state["blocks.0.mlp.0.weight"].shape[0],
            patch=patch,
            bottleneck=bottleneck,
            norm="rms" if "blocks.0.norm1.weight" in state else "layer",
            time_scale=1.0,
            dropout=numbers.get("dropout", 0.1),
            drop_path=numbers.get("drop_path_rate", 0.05),
            legacy=True,
        )
    except (LookupError, ValueError, TypeError, ArithmeticError, ConfigError) as error:
        why = error.message if isinstance(error, ConfigError) else repr(error)
        raise ModelError(
            f"{path} is no network with rotary positions and grouped queries: {why}",
            hint="the first JaTSR network (learned positions) is not supported; v1 to v3m2 are",
        ) from error
    for name, tensor in derived.items():
        _check_positions(name, tensor, head_dim, path)
    for key, field in _CONFIG_KEYS.items():
        value = getattr(config, field)
        if key in numbers and not math.isclose(numbers[key], value):
            raise ModelError(
                f"{path}: its config says {key} = {numbers[key]}, its tensors say {value}",
                hint="the file was put together from two networks; take the original one",
            )
    return config


def _numbers(said: object) -> dict[str, float]:
    """The finite numbers of the config in a file, if it has one."""
    fields = said.items() if isinstance(said, dict) else ()
    return {k: v for k, v in fields if isinstance(v, int | float) and math.isfinite(v)}


def _depth(names: Sequence[str]) -> int:
    found = {name.split(".")[1] for name in names if name.startswith("blocks.")}
    missing = {str(index) for index in range(len(found))} - found
    if missing:
        raise ValueError(f"of {len(found)} blocks there is none with number {min(missing)}")
    return len(found)


def _check_positions(name: str, found: Tensor, head_dim: int, path: Path) -> None:
    """Compare a tensor that we do not take over with what we compute instead."""
    half = head_dim // 2
    frequencies = BASE ** (-torch.arange(half) / half)
    precision = torch.finfo(found.dtype).eps
    if name.endswith("inv_freq"):
        expected, relative, absolute = frequencies, max(1e-4, 2 * precision), 1e-7
    else:
        rows = torch.arange(found.numel() // head_dim)
        angles = (rows[:, None] * frequencies).repeat(1, 2)
        expected = angles.cos() if name.endswith("cos_cached") else angles.sin()
        # angles of thousands, in float32
        relative, absolute = 0.0, max(2e-3, 2 * precision)
    same = found.numel() == expected.numel() and torch.allclose(
        found.float().reshape(expected.shape), expected, rtol=relative, atol=absolute
    )
    if not same:
        raise ModelError(
            f"{path}: {name} has rotary positions of another base than {BASE:g}",
            hint="only the base of the JaTSR networks is supported",
        )
