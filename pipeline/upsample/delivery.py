"""How outputs get from the worker that makes them to the folder where they are staged.

A worker that sees a folder on a disk writes into it. Into a bucket it uploads what it has finished.
Any other worker sends its outputs along with the results, in pieces.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.delivery import Staged
from pipeline.engines.base import Partial
from pipeline.upsample.folder import NEW, stem_of
from shards.errors import EnvironmentFailure
from shards.files import fsync_folder, machine_errors, sha256_file
from shards.scratch import scratch_folder
from shards.storage import LocalStore

_PIECE = 8 << 20


@dataclass(frozen=True)
class Piece(Partial):
    """A stretch of an output.

    Attributes:
        name: of the staged file.
        offset: where in it.
        data: bytes.
    """

    name: str
    offset: int
    data: bytes


class Outbox:
    """The worker's side.

    Args:
        staged: where outputs are staged.
        folder: where this worker writes them.
        ending: of their names.
    """

    def __init__(self, staged: Staged, folder: Path, ending: str) -> None:
        self._staged, self._folder, self._ending = staged, folder, ending
        self._is_there = isinstance(staged.store, LocalStore) and folder == staged.store.path / NEW

    def path(self, name: str) -> Path:
        """Where the output of a name is to be written; another one with every try."""
        return self._folder / f"{stem_of(name)}-{uuid.uuid4().hex[:8]}{self._ending}"

    def send(self, path: Path) -> Iterator[Piece]:
        """Pass a finished output on; the pieces in which it has to travel, if it has to."""
        if self._is_there:
            return
        if not self._staged.store.is_local:
            with machine_errors(f"uploading {path.name}"):
                self._staged.store.put(path, staged_name(path))
        else:
            with path.open("rb") as file:
                while data := file.read(_PIECE):
                    yield Piece(staged_name(path), file.tell() - len(data), data)
        path.unlink()


def staged_name(path: Path) -> str:
    """Of an output among what is staged."""
    return f"{NEW}/{path.name}"


@contextlib.contextmanager
def open_outbox(staged: Staged, ending: str) -> Iterator[Outbox]:
    """Find out how outputs get home from this process."""
    if isinstance(staged.store, LocalStore) and staged.is_ours:
        yield Outbox(staged, staged.store.path / NEW, ending)
        return
    with scratch_folder() as scratch:
        yield Outbox(staged, scratch, ending)


class Inbox:
    """The side of the folder: puts pieces together again."""

    def __init__(self, staged: Staged) -> None:
        self._staged = staged
        self._came: set[str] = set()

    def take(self, piece: Piece) -> None:
        """Add a piece; they come in their order."""
        self._came.add(piece.name)
        with machine_errors("receiving an output"), self._path(piece.name).open("ab") as file:
            file.write(piece.data)

    def expect(self, name: str, digest: str) -> None:
        """Make sure of an output that came in pieces, before it is entered anywhere.

        Raises:
            EnvironmentFailure: it is not what was sent.
        """
        if name not in self._came:
            return
        self._came.remove(name)
        if sha256_file(self._path(name)) != digest:
            raise EnvironmentFailure(
                "an output arrived damaged", hint="run the same command again: it goes on"
            )
        fsync_folder(self._path(name))

    def _path(self, name: str) -> Path:
        assert isinstance(self._staged.store, LocalStore)
        return self._staged.store.path / name
