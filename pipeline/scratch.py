"""Temporary folders of workers; what a killed worker leaves is removed by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for large temporary files on this machine, under ``TMPDIR``.

    It holds a lock for as long as it is in use. Folders beside it whose lock nobody holds belong
    to processes that were killed, and are removed.
    """
    root = Path(tempfile.gettempdir(), f"jatsr-{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise PermissionError(f"{root} belongs to somebody else: set TMPDIR to another folder")
    _sweep(root)
    folder = Path(tempfile.mkdtemp(dir=root))
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # not empty: others are at work
            root.rmdir()


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            continue  # just being made, or just gone
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)
