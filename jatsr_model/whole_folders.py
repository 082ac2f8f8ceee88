"""Folders that appear and go as a whole, whenever their process is killed.

What is being made or removed has a hidden name with the number of its process. One process at a
time may change a folder; others may read.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from shards.files import fsync_folder, fsync_tree

_HIDDEN = re.compile(r"\.(?P<name>.+)\.(?P<what>new|old)\.(?P<pid>\d+)\.tmp")


def hidden(path: Path, what: Literal["new", "old"] = "new") -> Path:
    """The name, beside ``path``, of what this process has not finished or no longer needs."""
    return path.with_name(f".{path.name}.{what}.{os.getpid()}.tmp")


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A folder to be filled that appears under its name whole, at the end, or not at all.

    One of this name is replaced. ``restore`` finds it where the process was killed while doing so.
    """
    new, old = hidden(path), hidden(path, "old")
    try:
        _delete(new)  # of a dead process that had our number
        new.mkdir(parents=True)
        yield new
        fsync_tree(new)
        if path.exists():
            _delete(old)
            os.rename(path, old)
        os.rename(new, path)
        fsync_folder(path.parent)
    finally:
        restore(path.parent)
        _delete(new)
        _delete(old)


def remove(path: Path) -> None:
    """Remove a folder so that nobody sees a part of it."""
    old = hidden(path, "new")  # not "old", which would be restored
    _delete(old)
    os.rename(path, old)
    _delete(old)


def restore(folder: Path) -> None:
    """Give those folders back their names whose process was killed while it replaced them."""
    for path, name, what in _abandoned(folder):
        if what == "old" and not (folder / name).exists():
            os.rename(path, folder / name)


def sweep(folder: Path) -> None:
    """Remove what was not finished; restore what was being replaced."""
    restore(folder)
    for path, _, _ in _abandoned(folder):
        _delete(path)


def _abandoned(folder: Path) -> list[tuple[Path, str, str]]:
    """What is left of dead processes: path, name that it was for, new or old."""
    found = ((path, _HIDDEN.fullmatch(path.name)) for path in folder.glob(".*.tmp"))
    return [
        (path, match["name"], match["what"])
        for path, match in found
        if match and not _of_another(int(match["pid"]))
    ]


def _of_another(pid: int) -> bool:
    """Whether another process has this number; our own may have been that of a dead one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _delete(path: Path) -> None:
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)  # what cannot be removed is swept up later
