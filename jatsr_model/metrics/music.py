"""Which files of a folder are music, and what they are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jatsr_model.audio.sniff import AUDIO_SUFFIXES
from shards.errors import ConfigError
from shards.files import printable


@dataclass(frozen=True)
class Music:
    """A file.

    Attributes:
        name: its path inside the folder without its ending, which stays where two would be called
            alike.
        path: of the file.
    """

    name: str
    path: Path


def find_music(data: Path) -> list[Music]:
    """A file, whatever it is called, or those of a folder whose names end like audio.

    Raises:
        ConfigError: there is no such folder, or nothing in it.
    """
    if not data.exists():
        raise ConfigError(f"--data {data}: no such file or folder", hint="check its name")
    if not data.is_dir():
        return [Music(printable(data.stem), data)]
    paths = [*audio_files(data)]
    if not paths:
        raise ConfigError(
            f"--data {data}: expected audio files, found none", hint="name a folder of music"
        )
    taken = Counter(path.with_suffix("") for path in paths)
    plain = (path.with_suffix("") if taken[path.with_suffix("")] == 1 else path for path in paths)
    names = [printable(name.relative_to(data).as_posix()) for name in plain]
    return [Music(name, path) for name, path in zip(names, paths, strict=True)]


def audio_files(folder: Path) -> Iterator[Path]:
    """Files below a folder whose names end like audio, in a stable order; hidden ones are none."""
    entered: set[str] = set()
    for base, names, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in entered:  # a symbolic link back
            names.clear()
            continue
        entered.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(base, name)
            if path.suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                yield path
