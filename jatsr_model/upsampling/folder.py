"""The folder of outputs: one run at a time, and nothing left of those that were killed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jatsr_model.upsampling.sources import Planned
from shards.errors import ConfigError
from shards.files import file_lock, temporary_stem

LOCK = ".upsampling.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; see ``file_lock``."""
    path = folder / LOCK
    with file_lock(path, folder, doing="upsampling into", name="OUT"):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def expect_free(target: Path, *, overwrite: bool) -> None:
    """Make sure that a named output does not replace anything.

    Raises:
        ConfigError: it would.
    """
    if os.path.exists(target) and not overwrite:  # Path.exists raises for names too long
        raise ConfigError(f"OUT {target} exists already", hint="use --overwrite to replace it")


def sweep(todo: Sequence[Planned]) -> None:
    """Remove what a killed run has left of these files; nobody else is at work here."""
    names: dict[Path, set[str]] = {}
    for item in todo:
        names.setdefault(item.target.parent, set()).add(temporary_stem(item.target.name))
    for folder, expected in names.items():
        if not folder.is_dir():
            continue
        for path in folder.glob(".*.tmp"):
            found = re.fullmatch(r"\.(.+)\.[^.]+\.tmp", path.name)
            if found and found[1] in expected:
                path.unlink(missing_ok=True)
