"""Checkpoints of the public JaTSR training scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jatsr_model.dit import PRESETS, DiT, DiTConfig
from jatsr_model.imports.layout import config_of, rename, split_state
from jatsr_model.imports.pickled import read_checkpoint
from jatsr_model.model_folder import ModelError

_COUNTERS = ("epoch", "global_step", "best_val_loss")
# what a file cannot tell, or what the legacy mode of a preset changes
_NOT_COMPARED = {"dropout", "drop_path", "legacy", "time_scale"}
_NORMS = {"rms": "RMSNorm", "layer": "LayerNorm without weights"}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A checkpoint taken over.

    Args:
        network: in evaluation mode, in legacy mode.
        models: presets of this shape; empty where none has it.
        derived: tensors that were left out, since they follow from others.
        facts: counters found in the file, finite.
    """

    network: DiT
    models: tuple[str, ...]
    derived: int
    facts: Mapping[str, int | float]


def import_checkpoint(path: Path, model: str = "") -> Imported:
    """Load a checkpoint strictly.

    Args:
        path: the file, which is read without running code that it may hold.
        model: the preset that it must fit; empty to take the one that fits.

    Raises:
        ModelError: the file is damaged or of another layout, something is missing or left over, or
            it does not fit the preset.
    """
    checkpoint = read_checkpoint(path)
    state, derived = split_state(checkpoint["model_state_dict"], path)
    config = config_of(state, derived, checkpoint.get("config"), path)
    names = tuple(
        name for name, p in PRESETS.items() if p.published and not _differences(config, p.config)
    )
    if model and model not in names:
        _refuse(path, config, model)
    with torch.device("meta"):
        network = DiT(config)
    names_of = {name: rename(name) or f"{name} (not a name of theirs)" for name in state}
    _check(network.state_dict(), {ours: state[name] for name, ours in names_of.items()}, path)
    # copied: tensors in the file may share memory
    weights = {ours: state[name].to(torch.float32, copy=True) for name, ours in names_of.items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return Imported(
        network=network.eval(),
        models=(model,) if model else names,
        derived=len(derived),
        facts=_facts(checkpoint),
    )


def _facts(checkpoint: Mapping[str, Any]) -> dict[str, int | float]:
    """Finite counters; the best loss is infinite until there is one."""
    found = {name: checkpoint.get(name) for name in _COUNTERS}
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}
    return {k: v for k, v in plain.items() if isinstance(v, int | float) and math.isfinite(v)}


def _differences(found: DiTConfig, wanted: DiTConfig) -> list[str]:
    return [
        f"{name} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in (f.name for f in fields(DiTConfig))
        if name not in _NOT_COMPARED and getattr(found, name) != getattr(wanted, name)
    ]


def _refuse(path: Path, config: DiTConfig, model: str) -> None:
    wanted = PRESETS[model].config
    if wanted.norm != config.norm:
        raise ModelError(
            f"{path} is a network with {_NORMS[config.norm]}, {model} has "
            f"{_NORMS.get(wanted.norm, wanted.norm)}: the weights would compute something else",
            hint="RMSNorm files are v3m2, all others v1 to v3mod3; leave out --model",
        )
    raise ModelError(
        f"{path} is not {model}: " + ", ".join(_differences(config, wanted)),
        hint="leave out --model, or name another",
    )


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    missing, unexpected = sorted(expected.keys() - found), sorted(found.keys() - expected)
    shapes = [k for k in expected.keys() & found.keys() if expected[k].shape != found[k].shape]
    if missing or unexpected or shapes:
        raise ModelError(
            f"{path}: {_some('missing', missing)}, {_some('unexpected', unexpected)}, "
            f"{_some('of another shape', shapes)}",
            hint="the file is incomplete or of another network",
        )


def _some(what: str, names: Iterable[str]) -> str:
    names = list(names)
    return f"{len(names)} {what}" + (f" (such as {', '.join(names[:3])})" if names else "")
