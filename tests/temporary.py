"""Where tests write: in memory if there is room, and apart from other processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

_MEMORY = "/dev/shm"
_ROOM = 2 << 30  # a session leaves a few hundred megabytes


def use_memory() -> None:
    """Builds make and flush thousands of small files, which is slow on a disk."""
    if not os.access(_MEMORY, os.W_OK):
        return
    place = os.statvfs(_MEMORY)
    runs_programs = not place.f_flag & os.ST_NOEXEC  # what torch compiles
    if place.f_bavail * place.f_frsize > _ROOM and runs_programs:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)


@pytest.fixture(scope="session", autouse=True)
def own_tmpdir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A ``TMPDIR`` of this process and its children: so tests see what these leave there."""
    path = str(tmp_path_factory.mktemp("t"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", path)
        patch.setattr(tempfile, "tempdir", path)
        yield
