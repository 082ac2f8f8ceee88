"""A network on disk: ``model.safetensors`` and ``model.json``, which says what it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from jatsr_model.dit import DiT, DiTConfig
from jatsr_model.flow import TIME_CONVENTION
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import fsync_folder, fsync_tree, machine_errors, pretty_json, sha256_file

WEIGHTS, CARD = "model.safetensors", "model.json"
VERSION = 1


class ModelError(ConfigError):
    """A folder or file does not hold the network that it should."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a network is.

    Args:
        model: name of the preset; empty where none or more than one is meant.
        config: shape and function.
        prediction: ``x`` (data) or ``v`` (velocity).
        origin: where the weights came from; JSON-ready.
    """

    model: str
    config: DiTConfig
    prediction: Literal["x", "v"]
    origin: Mapping[str, Any] = field(default_factory=dict)


def save_network(folder: Path, network: DiT, card: Card) -> None:
    """Write a new folder; it appears whole or not at all.

    Raises:
        ModelError: there is something under this name already, or the tensors of the network
            cannot be saved (none in memory, sparse, or sharing memory).
        EnvironmentFailure: the disk is full.
    """
    if folder.exists():
        raise ModelError(
            f"{folder} exists already", hint="name another folder with --output, or remove it"
        )
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with machine_errors(f"writing {folder}"):
            staged.mkdir(parents=True)
            _save_weights(network, staged / WEIGHTS)
            (staged / CARD).write_bytes(pretty_json(_facts(card, staged / WEIGHTS)))
            fsync_tree(staged)
            os.rename(staged, folder)
            fsync_folder(folder.parent)
    except SafetensorError as error:
        raise EnvironmentFailure(
            f"{folder} could not be written: {error}", hint="is the disk full?"
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _save_weights(network: DiT, path: Path) -> None:
    try:
        state = {k: v.contiguous() for k, v in network.state_dict().items()}
        save_file(state, path)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"this network cannot be saved: {error}",
            hint="its tensors must be dense, in memory, and none a part of another",
        ) from error


def _facts(card: Card, weights: Path) -> dict[str, Any]:
    return {
        "version": VERSION,
        "model": card.model,
        "config": asdict(card.config),
        "prediction": card.prediction,
        "time": TIME_CONVENTION,
        "sha256": sha256_file(weights),
        "origin": dict(card.origin),
    }


def read_card(folder: Path) -> tuple[Card, str]:
    """The card of a folder, and the sha256 that its weights should have.

    Raises:
        ModelError: there is none, or it was written by another version or for another convention.
    """
    path = folder / CARD
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version, time = facts["version"], facts["time"]
        if (version, time) != (VERSION, TIME_CONVENTION):
            raise ModelError(
                f"{path}: version {version} with times '{time}', "
                f"expected {VERSION} with '{TIME_CONVENTION}'",
                hint="use the version of jatsr that wrote it",
            )
        if facts["prediction"] not in ("x", "v"):
            raise ValueError(f"prediction '{facts['prediction']}'")
        config = DiTConfig(**facts["config"])
        card = Card(
            model=facts["model"],
            config=config,
            prediction=facts["prediction"],
            origin=facts["origin"],
        )
        return card, str(facts["sha256"])
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelError(
            f"{path} should describe a network: {error!r}",
            hint="name a folder written by jatsr import-checkpoint",
        ) from error


def load_network(folder: Path) -> tuple[DiT, Card]:
    """The network of a folder, on the CPU, in evaluation mode.

    Raises:
        ModelError: it is not there, is damaged, or does not fit its card.
    """
    card, digest = read_card(folder)
    weights = folder / WEIGHTS
    try:
        if sha256_file(weights) != digest:
            raise ModelError(
                f"{weights} is not what {CARD} says: its sha256 differs", hint="copy it again"
            )
        with torch.device("meta"):
            network = DiT(card.config)
        network.load_state_dict(load_file(weights), strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{weights} does not fit: {error}", hint="copy it again") from error
    return network.eval(), card
