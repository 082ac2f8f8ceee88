"""Which format outputs have, by ``--format`` or by the name of OUT."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from shards.errors import ConfigError

FORMATS: Mapping[str, str] = MappingProxyType(
    {"wav": ".wav", "flac": ".flac", "ogg": ".ogg", "opus": ".opus"}
)
_ENDINGS = {*FORMATS.values(), ".oga"}
DEFAULT = "flac"


def names_a_file(inputs: tuple[str, ...], out: Path) -> bool:
    """Whether OUT is the one output of one input, and not a folder."""
    if out.suffix.lower() not in _ENDINGS or os.path.isdir(out):
        return False
    if len(inputs) > 1 or not Path(inputs[0]).is_file():
        raise ConfigError(
            f"OUT {out}: it is named like a sound file, but there may be several outputs",
            hint="name a folder",
        )
    return True


def ending_of(container: str | None, out: Path, *, is_file: bool) -> str:
    """The ending of outputs.

    Raises:
        ConfigError: the name of OUT asks for another format.
    """
    if not is_file:
        return FORMATS[container or DEFAULT]
    ending = out.suffix.lower()
    wanted = ending if container is None else FORMATS[container]
    if wanted != (".ogg" if ending == ".oga" else ending) and wanted != ending:
        raise ConfigError(
            f"--format {container}: OUT {out.name} asks for another format",
            hint="leave --format out, or change the ending of OUT",
        )
    return ending
