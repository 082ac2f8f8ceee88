"""The folder of a training: ``run.json``, ``checkpoints/``, TensorBoard's files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jatsr_model.training.settings import Recipe, Runtime
from shards.errors import ConfigError, EnvironmentFailure, FormatError
from shards.files import machine_errors, pretty_json, write_atomically

VERSION = 1
RUN, CHECKPOINTS, LOCK = "run.json", "checkpoints", ".lock"


@dataclass(frozen=True)
class RunFile:
    """What ``run.json`` says.

    Args:
        dataset: address of the dataset.
        recipe: what decides the result.
        runtime: how it ran last.
        places: of files that it needs: ``codec_weights``, ``text_encoder``, ``start``.
        made_with: versions of libraries; for people.
    """

    dataset: str
    recipe: Recipe
    runtime: Runtime
    places: Mapping[str, str]
    made_with: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Write it whole or not at all.

        Raises:
            EnvironmentFailure: the disk is full.
        """
        document = {
            "version": VERSION,
            "dataset": self.dataset,
            "recipe": self.recipe.to_json(),
            "runtime": self.runtime.to_json(),
            "places": dict(self.places),
            "made_with": dict(self.made_with),
        }
        with machine_errors(f"writing {folder / RUN}"):
            write_atomically(folder / RUN, pretty_json(document))


def read_run(folder: Path) -> RunFile:
    """What a folder says of its training.

    Raises:
        FormatError: it is no such folder, or another version of jatsr wrote it.
    """
    path = folder / RUN
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != VERSION:
            raise FormatError(
                f"{path}: expected version {VERSION}, found {document['version']}",
                hint="continue with the version of jatsr that began it",
            )
        return RunFile(
            dataset=document["dataset"],
            recipe=Recipe.from_json(document["recipe"]),
            runtime=Runtime(**document["runtime"]),
            places=document["places"],
            made_with=document["made_with"],
        )
    except FileNotFoundError as error:
        raise FormatError(
            f"{folder}: expected a training, found no {RUN}", hint="check --output and --name"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path} should describe a training: {error!r}",
            hint="name a folder that jatsr train has made: --name",
        ) from error


def expect_no_training(folder: Path) -> None:
    """See that a new training can begin in a folder.

    Raises:
        ConfigError: it holds one already.
    """
    if (folder / RUN).exists():
        raise ConfigError(
            f"{folder} holds a training already",
            hint=f"continue it with --resume --name {folder.name}, or give another --name",
        )


@contextmanager
def resumable(folder: Path, action: str) -> Iterator[None]:
    """Where a full disk ends a training that can go on afterwards.

    Args:
        folder: of the training.
        action: what is done inside, for messages.

    Raises:
        EnvironmentFailure: the disk is full, or the machine lacks something else.
    """
    try:
        with machine_errors(action):
            yield
    except EnvironmentFailure as error:
        error.hint = f"free some space, then continue with --resume --name {folder.name}"
        raise


def newest_run(output: Path) -> Path:
    """The folder of the training that was begun or continued last.

    Raises:
        ConfigError: there is none.
    """
    found = sorted(output.glob(f"*/{RUN}"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise ConfigError(
            f"--resume: no training in {output}",
            hint="name its folder with --output and --name, or begin one without --resume",
        )
    return found[-1].parent
