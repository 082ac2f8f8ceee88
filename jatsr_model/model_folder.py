"""A network on disk: ``model.safetensors`` and ``model.json``, which says what it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from jatsr_model.dit import DiT, DiTConfig
from jatsr_model.flow import TIME_CONVENTION, Prediction
from jatsr_model.whole_folders import appearing
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import machine_errors, pretty_json, sha256_file

SHIPPED = Path(__file__).parent / "shipped"  # models that come with the package
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
        prediction: ``x`` (data), ``v`` (velocity) or ``envelope``.
        origin: where the weights came from; JSON-ready.
        latents: what it was trained on: space, codec, scales, length of crops; JSON-ready. Numbers
            are kept to the last bit, those of float32 too. Empty where this is not known.
    """

    model: str
    config: DiTConfig
    prediction: Prediction
    origin: Mapping[str, Any] = field(default_factory=dict)
    latents: Mapping[str, Any] = field(default_factory=dict)


def save_network(folder: Path, network: DiT, card: Card) -> None:
    """Write a new folder; see ``save_state``."""
    save_state(folder, network.state_dict(), card)


def save_state(folder: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Write a new folder with the tensors of a network; it appears whole or not at all.

    Raises:
        ModelError: there is something under this name already, or the tensors of the network
            cannot be saved (none in memory, sparse, or sharing memory).
        EnvironmentFailure: the disk is full.
    """
    if folder.exists():
        raise ModelError(
            f"{folder} exists already", hint="name another folder with --output, or remove it"
        )
    with full_disk(folder), appearing(folder) as staged:
        write_network(staged, state, card)


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Say so where what is written to ``path`` does not fit.

    Raises:
        EnvironmentFailure: the disk is full.
    """
    try:
        with machine_errors(f"writing {path}"):
            yield
    except SafetensorError as error:
        raise EnvironmentFailure(
            f"{path} could not be written: {error}",
            hint="is the disk full? free some space, then run the same command again",
        ) from error


def write_network(folder: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Write the two files of a network into a folder.

    Args:
        folder: that exists.
        state: of the network.
        card: what it is.

    Raises:
        ModelError: the tensors cannot be saved.
        SafetensorError: the disk is full; ``full_disk`` turns it into an ``EnvironmentFailure``.
    """
    write_tensors(folder / WEIGHTS, state)
    (folder / CARD).write_bytes(pretty_json(_facts(card, folder / WEIGHTS)))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors; see ``write_network``. Those that are contiguous are not copied."""
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"these tensors cannot be saved: {error}",
            hint="they must be dense, in memory, and none a part of another",
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
        "latents": dict(card.latents),
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
        if facts["prediction"] not in get_args(Prediction):
            raise ValueError(f"prediction '{facts['prediction']}'")
        config = DiTConfig(**facts["config"])
        card = Card(
            model=facts["model"],
            config=config,
            prediction=facts["prediction"],
            origin=facts["origin"],
            latents=dict(facts.get("latents", {})),  # older folders have none
        )
        return card, str(facts["sha256"])
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        found = "there is none" if isinstance(error, FileNotFoundError) else repr(error)
        raise ModelError(
            f"{path} should describe a network: {found}",
            hint="name a folder written by jatsr import-checkpoint or a checkpoint of jatsr train",
        ) from error


def find_model(name: str, runs: Path = Path("runs"), flag: str = "--model") -> Path:
    """The model folder that a user means.

    Args:
        name: that of a model that comes with the package, wherever one is; the folder itself, that
            of a training, whose best checkpoint it then is, or the name of a training in ``runs``.
        runs: where ``jatsr train`` puts trainings.
        flag: that was given the name.

    Raises:
        ModelError: there is none; names the flag.
    """
    best = Path("checkpoints") / "best"
    places = [Path(name), Path(name) / best, runs / name / best]
    shipped = [SHIPPED / name] if name in shipped_models() else []
    for folder in shipped + places:
        if (folder / CARD).is_file():
            return folder
    raise ModelError(
        f"{flag} {name}: expected a folder with {CARD}, found none, nor {places[1]}, nor "
        f"{places[2]}",
        hint="name a checkpoint of jatsr train, its training, a folder written by jatsr export, or "
        f"a model that comes with jatsr: {', '.join(shipped_models())}",
    )


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(card.parent.name for card in SHIPPED.glob(f"*/{CARD}"))


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
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:  # the bytes are those of the card, the network is another
        hint = "another version of jatsr made it: use that one, or train the model anew"
        raise ModelError(f"{weights} does not fit: {error}", hint=hint) from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{weights}: {error}", hint="copy it again") from error
    return network.eval(), card
