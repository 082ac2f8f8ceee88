"""Checkpoints of a training: folders that are whole or not there.

    RUN/checkpoints/00005000/model.safetensors      averaged weights and
                             model.json             their card: a model folder like any other
                             training.safetensors   what else is needed to continue
                             training.json          step, facts, sha256 of every file
    RUN/checkpoints/last -> 00005000
    RUN/checkpoints/best -> 00004000

One process at a time writes into RUN/checkpoints; any number may read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jatsr_model.model_folder import (
    CARD,
    WEIGHTS,
    Card,
    ModelError,
    full_disk,
    read_card,
    write_network,
    write_tensors,
)
from jatsr_model.whole_folders import appearing, hidden, restore
from shards.errors import EnvironmentFailure
from shards.files import (
    canonical_json,
    fsync_folder,
    machine_errors,
    pretty_json,
    sha256_file,
    sha256_json,
)

TENSORS, RECORD = "training.safetensors", "training.json"
VERSION = 1
_HINT = "continue from an older checkpoint; this one can be removed"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was read; tensors are on the CPU and are read from the files when they are used.

    Args:
        path: its folder.
        step: of the training.
        network_state: averaged weights by name.
        tensors: weights, moments and what else was given to ``write_checkpoint``.
        card: of the averaged network.
        facts: as they were given.
    """

    path: Path
    step: int
    network_state: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    card: Card
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """The newest intact checkpoint.

    Args:
        path: its folder; None where there is none.
        damaged: what is wrong with newer ones, one message each.
    """

    path: Path | None
    damaged: tuple[str, ...] = ()


def write_checkpoint(
    folder: Path,
    step: int,
    network_state: Mapping[str, Tensor],
    card: Card,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> Path:
    """Write ``folder``/STEP and make it the last; it appears whole or not at all.

    One of the same step, of before a training was continued from an earlier one, is replaced.

    Args:
        folder: RUN/checkpoints.
        step: of the training.
        network_state: averaged weights: what ``load_network`` gives.
        card: of this network.
        tensors: whatever else is needed to continue, by name; on the CPU, contiguous (others are
            copied), none a part of another.
        facts: likewise; JSON-ready, without NaN or infinities. ``hours``, the wall time of training
            up to here, is what ``prune`` goes by.

    Returns:
        Its path. When this is known, neither kill -9 nor a power cut takes it away.

    Raises:
        ModelError: tensors that cannot be saved.
        EnvironmentFailure: the disk is full; older checkpoints are as they were.
    """
    canonical_json(facts)  # fails before gigabytes are written
    path = folder / name_of(step)
    with full_disk(path), appearing(path) as staged:
        write_network(staged, network_state, card)
        write_tensors(staged / TENSORS, tensors)
        files = {name: sha256_file(staged / name) for name in (WEIGHTS, CARD, TENSORS)}
        record = {"version": VERSION, "step": step, "facts": facts, "files": files}
        (staged / RECORD).write_bytes(_sealed(record))
    mark(folder, "last", step)
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint whose every byte is as it was written.

    Args:
        path: its folder, or a link to it.

    Raises:
        ModelError: it is not there, is damaged, or of another version.
        EnvironmentFailure: there are too few resources to read it.
    """
    path = path.resolve()
    record = verify(path)
    card, _ = read_card(path)
    try:
        state, tensors = load_file(path / WEIGHTS), load_file(path / TENSORS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}", hint=_HINT) from error
    return Checkpoint(
        path=path,
        step=record["step"],
        network_state=state,
        tensors=tensors,
        card=card,
        facts=record["facts"],
    )


def verify(path: Path) -> dict[str, Any]:
    """Compare all files of a checkpoint with their hashes; returns ``training.json``.

    Raises:
        ModelError: something is missing or differs.
        EnvironmentFailure: there are too few resources to read it.
    """
    record = read_record(path)
    try:
        with machine_errors(f"reading {path}"):
            found = {name: sha256_file(path / name) for name in record["files"]}
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}", hint=_HINT) from error
    if differing := [name for name, digest in record["files"].items() if found[name] != digest]:
        raise ModelError(
            f"{path}: {', '.join(differing)} not as written: the sha256 differs", hint=_HINT
        )
    return record


def read_record(path: Path) -> dict[str, Any]:
    """``training.json`` of a checkpoint, itself verified: version, step, facts, files.

    Raises:
        ModelError: it is missing, damaged, or of another version.
        EnvironmentFailure: there are too few resources to read it.
    """
    file = path / RECORD
    try:
        with machine_errors(f"reading {file}"):
            data = file.read_bytes()
        record: dict[str, Any] = json.loads(data)
        version = record["version"]
        del record["sha256"]
        intact = data == _sealed(record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} should describe a checkpoint: {error!r}", hint=_HINT) from error
    if version != VERSION:
        raise ModelError(
            f"{file}: version {version}, expected {VERSION}",
            hint="use the version of jatsr that wrote it",
        )
    if not intact:
        raise ModelError(f"{file} is not as written: its sha256 differs", hint=_HINT)
    return record


def newest_intact(folder: Path) -> Found:
    """Find the newest checkpoint that is whole, and say what is wrong with newer ones.

    One that a process was replacing when it was killed gets its name back.

    Raises:
        EnvironmentFailure: there are too few resources to read them.
    """
    restore(folder)
    damaged: list[str] = []
    for step in reversed(steps(folder)):
        path = folder / name_of(step)
        try:
            verify(path)
        except ModelError as error:
            damaged.append(error.message)
        else:
            return Found(path, tuple(damaged))
    return Found(None, tuple(damaged))


def steps(folder: Path) -> list[int]:
    """Steps of which there are checkpoints, damaged ones too, ascending."""
    if not folder.is_dir():
        return []
    names = (p.name for p in folder.iterdir() if re.fullmatch(r"\d{8,}", p.name) and p.is_dir())
    return sorted(int(name) for name in names if name == name_of(int(name)))


def name_of(step: int) -> str:
    """The folder of a step: eight digits, or more where they are needed."""
    return f"{step:08d}"


def mark(folder: Path, name: Literal["best", "last"], step: int) -> None:
    """Point a link at the checkpoint of a step; there is no moment without the link.

    Raises:
        ModelError: there is no such checkpoint.
        EnvironmentFailure: the link cannot be made.
    """
    if not (folder / name_of(step)).is_dir():
        raise ModelError(f"{folder} has no checkpoint of step {step} that could be {name}")
    link = folder / name
    staged = hidden(link)
    try:
        staged.unlink(missing_ok=True)
        os.symlink(name_of(step), staged)
        os.replace(staged, link)
        fsync_folder(folder)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise EnvironmentFailure(
            f"{link} could not be made a link: {error.strerror}",
            hint="free some space; if it is a folder, remove it; the file system must have links",
        ) from error


def _sealed(record: Mapping[str, Any]) -> bytes:
    """The bytes of ``training.json``, which tell by themselves whether they are what they were."""
    return pretty_json({**record, "sha256": sha256_json(record)})
