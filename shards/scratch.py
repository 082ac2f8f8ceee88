"""Temporary folders of workers; what a killed worker leaves is removed by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shards.errors import EnvironmentFailure
from shards.files import machine_errors

_LOCK = "lock"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for large temporary files on this machine, under ``TMPDIR``.

    It holds a lock for as long as it is in use. Folders beside it whose lock nobody holds belong
    to processes that were killed, and are removed.
    """
    root = Path(tempfile.gettempdir(), f"jatsr-{os.getuid()}")
    # Locked, so that nobody sweeps up a folder before it holds its own lock.
    with machine_errors(f"making a folder in {root}"), _locked(root):
        _sweep(root)
        folder = Path(tempfile.mkdtemp(dir=root))
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Be the only one who makes and sweeps folders in the root, which is made and stays."""
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise EnvironmentFailure(
            f"{root} belongs to somebody else", hint="set TMPDIR to another folder"
        )
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:  # its process was killed while it made or removed it
            shutil.rmtree(folder, ignore_errors=True)
            continue
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)
