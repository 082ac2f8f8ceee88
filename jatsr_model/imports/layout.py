"""How the public JaTSR scripts name tensors, and the shape of a network that follows from them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jatsr_model.dit import DiTConfig
from jatsr_model.dit.rotary import BASE
from jatsr_model.model_folder import ModelError

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
    """Tensors by their names in the original: weights, and what follows from them."""
    state: dict[str, Tensor] = {}
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ModelError(f"{path}: {name} is no tensor", hint="copy it again")
        prefix = _PREFIXES.match(name)
        state[name[prefix.end() :] if prefix else name] = value
    derived = {name: value for name, value in state.items() if _DERIVED.fullmatch(name)}
    return {name: value for name, value in state.items() if name not in derived}, derived


def rename(name: str) -> str:
    """Our name of a tensor; names that are not theirs stay as they are."""
    for pattern, replacement in _RENAMED:
        renamed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return renamed
    return name


def config_of(
    state: Mapping[str, Tensor], derived: Mapping[str, Tensor], said: object, path: Path
) -> DiTConfig:
    """The shape of the network, from the shapes of its tensors; what the file says must agree."""
    try:
        frequencies = derived["blocks.0.attn.rope.inv_freq"]
        hidden, bottleneck = state["patch_embed.proj.2.weight"].shape
        head_dim = 2 * len(frequencies)
        said = said if isinstance(said, dict) else {}
        patch = int(said.get("patch_len", PATCH))
        config = DiTConfig(
            latent_dim=state["final_layer.1.weight"].shape[0] // patch,
            hidden=hidden,
            depth=1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
            heads=hidden // head_dim,
            kv_heads=state["blocks.0.attn.k_proj.weight"].shape[0] // head_dim,
            mlp_hidden=state["blocks.0.mlp.0.weight"].shape[0],
            patch=patch,
            bottleneck=bottleneck,
            norm="rms" if "blocks.0.norm1.weight" in state else "layer",
            time_scale=1.0,
            dropout=float(said.get("dropout", 0.1)),
            drop_path=float(said.get("drop_path_rate", 0.05)),
            legacy=True,
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(
            f"{path} is no network with rotary positions and grouped queries: {error!r}",
            hint="the first JaTSR network (learned positions) is not supported; v1 to v3m2 are",
        ) from error
    _check_frequencies(frequencies, path)
    for key, field in _CONFIG_KEYS.items():
        value = getattr(config, field)
        if isinstance(said.get(key), int | float) and not math.isclose(said[key], value):
            raise ModelError(
                f"{path}: its config says {key} = {said[key]}, its tensors say {value}",
                hint="the file was put together from two networks; take the original one",
            )
    return config


def _check_frequencies(found: Tensor, path: Path) -> None:
    expected = BASE ** (-torch.arange(len(found)) / len(found))
    if not torch.allclose(found.float(), expected, rtol=1e-4):
        raise ModelError(
            f"{path}: rotary positions of another base than {BASE:g}",
            hint="only the base of the JaTSR networks is supported",
        )
