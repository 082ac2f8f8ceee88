"""Where the DAC weights are, and whether they are what they were. Imports no torch."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_dir

from shards.errors import ConfigError
from shards.files import sha256_file, write_atomically

ENVIRONMENT = "JATSR_DAC_WEIGHTS"
Layout = Literal["hf", "descript"]
_HF_FILE = "model.safetensors"


class WeightsError(ConfigError):
    """Weights are missing, damaged, of another model, or not the bytes recorded at download."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One weight file, hashed.

    Args:
        path: the file itself, also where a folder was named.
        layout: ``hf`` (safetensors named as in transformers) or ``descript`` (the original .pth).
        sha256: of the file, hexadecimal.
        origin: ``--codec-weights``, the environment variable, or ``cache``.
    """

    path: Path
    layout: Layout
    sha256: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """What ``jatsr codec fetch`` writes beside a file: where it came from and what it was."""

    url: str
    revision: str
    sha256: str

    def write(self, weights: Path) -> None:
        """Record beside ``weights``."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
        write_atomically(source_path(weights), text.encode("utf-8"))


def cache_folder() -> Path:
    """Where ``jatsr codec fetch`` puts the weights of ``dac-44khz``."""
    return Path(user_cache_dir("jatsr")) / "codecs" / "dac-44khz"


def source_path(weights: Path) -> Path:
    """The record beside a weight file."""
    return weights.with_name(weights.name + ".source.json")


def read_source(weights: Path) -> Source | None:
    """The record beside a weight file, if there is one.

    Raises:
        WeightsError: if the record cannot be read.
    """
    path = source_path(weights)
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Source(url=fields["url"], revision=fields["revision"], sha256=fields["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} should hold url, revision and sha256 of the weights beside it: {error!r}",
            hint="fetch again: jatsr codec fetch --force",
        ) from error


def find_weights(explicit: Path | None) -> WeightFile:
    """Look in ``--codec-weights``, then the environment, then the cache; hash what is found.

    A place that is named but unusable is an error: the search never moves on silently.

    Raises:
        WeightsError: nothing found (all ways are listed), or the place named is not weights, or
            the file is not the one recorded when it was fetched.
    """
    named = os.environ.get(ENVIRONMENT)
    if explicit is not None:
        return _checked(explicit.expanduser(), "--codec-weights")
    if named:
        return _checked(Path(named).expanduser(), ENVIRONMENT)
    for name in (_HF_FILE, "weights.pth"):
        if (cache_folder() / name).exists():
            return _checked(cache_folder() / name, "cache")
    raise WeightsError(
        "--codec dac-44khz needs its trained weights, and none were found",
        hint="one of: --codec-weights PATH (a .safetensors file, a folder with config.json and "
        f"model.safetensors, or the original .pth); {ENVIRONMENT}=PATH; `jatsr codec fetch`, which "
        f"fills {cache_folder()}. --codec mdct needs no weights.",
    )


def _checked(place: Path, origin: str) -> WeightFile:
    path, layout = _file_of(place, origin)
    digest = sha256_file(path)
    source = read_source(path)
    if source is not None and source.sha256 != digest:
        raise WeightsError(
            f"{path} has sha256 {digest}, but {source.sha256} was recorded when it was fetched",
            hint="the file is damaged or was replaced; fetch again: jatsr codec fetch --force",
        )
    return WeightFile(path=path, layout=layout, sha256=digest, origin=origin)


def _file_of(place: Path, origin: str) -> tuple[Path, Layout]:
    if place.is_dir():
        if not (place / _HF_FILE).is_file() or not (place / "config.json").is_file():
            raise WeightsError(
                f"{origin}: the folder {place} should hold config.json and {_HF_FILE}",
                hint="name the weight file itself, or a complete folder",
            )
        return place / _HF_FILE, "hf"
    if not place.is_file():
        raise WeightsError(f"{origin}: there is no file or folder {place}", hint=_KINDS)
    if place.suffix == ".safetensors":
        return place, "hf"
    if place.suffix in (".pth", ".pt"):
        return place, "descript"
    raise WeightsError(f"{origin}: cannot tell the layout of {place} by its name", hint=_KINDS)


_KINDS = "expected a .safetensors file, a folder with config.json, or the original .pth"
