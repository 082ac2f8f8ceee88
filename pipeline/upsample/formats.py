"""Which format outputs have, by ``--format`` or by the name of OUT."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType

from shards.errors import ConfigError
from shards.storage import LocalStore, Store, open_store

FORMATS: Mapping[str, str] = MappingProxyType(
    {"wav": ".wav", "flac": ".flac", "ogg": ".ogg", "opus": ".opus"}
)
_ENDINGS = {*FORMATS.values(), ".oga"}
DEFAULT = "flac"


def names_a_file(inputs: Sequence[str], out: Store) -> bool:
    """Whether OUT is the one output of one input, and not a folder.

    Raises:
        ConfigError: it is named like a file, but there may be several outputs.
    """
    is_folder = isinstance(out, LocalStore) and os.path.isdir(out.path)
    if ending_in(out.url) not in _ENDINGS or is_folder:
        return False
    if len(inputs) > 1 or open_store(inputs[0]).stat("") is None:
        raise ConfigError(
            f"OUT {out.url}: it is named like a sound file, but there may be several outputs",
            hint="name a folder",
        )
    return True


def ending_in(url: str) -> str:
    """``.flac``, in lower case."""
    return PurePath(url).suffix.lower()


def ending_of(container: str | None, out: Store, *, is_file: bool) -> str:
    """The ending of outputs.

    Raises:
        ConfigError: the name of OUT asks for another format.
    """
    if not is_file:
        return FORMATS[container or DEFAULT]
    ending = ending_in(out.url)
    wanted = ending if container is None else FORMATS[container]
    if wanted != (".ogg" if ending == ".oga" else ending) and wanted != ending:
        raise ConfigError(
            f"--format {container}: OUT {out.url} asks for another format",
            hint="leave --format out, or change the ending of OUT",
        )
    return ending
