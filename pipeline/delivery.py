"""How the part of a track gets from the worker that made it to where parts are staged.

A worker that can write to the staging folder, because it is on a disk that it sees or in object
storage, does so itself. For any other the part travels with the results, in pieces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.engines.base import Partial
from pipeline.parts import Part, PartStore, RunWriter
from pipeline.records import TrackResult
from shards.errors import EnvironmentFailure
from shards.files import machine_errors
from shards.scratch import scratch_folder
from shards.storage import LocalStore, Store

RUN = "run"


@dataclass(frozen=True)
class Staged:
    """The staging folder as workers know it; picklable.

    Args:
        store: the folder.
        run: which run writes to it. A worker for which a local folder holds something else is on
            another machine and sends its parts instead.
    """

    store: Store
    run: str

    @property
    def reachable(self) -> bool:
        """Whether this process can write to the folder itself."""
        return not self.store.is_local or self.is_ours

    @property
    def is_ours(self) -> bool:
        """Whether the folder, as this process sees it, is that of this run."""
        try:
            return self.store.read(RUN) == self.run.encode()
        except OSError:
            return False

    def parts(self, scratch: Path | None = None) -> PartStore:
        """The finished tracks."""
        return PartStore(self.store.child("parts"), scratch)


@dataclass(frozen=True)
class Piece(Partial):
    """A stretch of a track's run; the last one has the part and perhaps no data."""

    track: str
    offset: int
    data: bytes
    part: Part | None = None


class Sender:
    """The worker's side.

    Attributes:
        parts: where the worker writes parts.
        scratch: where it may put large temporary files.
    """

    def __init__(self, parts: PartStore, scratch: Path, *, forward: bool) -> None:
        self.parts = parts
        self.scratch = scratch
        self._forward = forward

    def send(self, results: Iterator[TrackResult]) -> Iterator[TrackResult | Piece]:
        """Results, each after the pieces of its part if these have to travel."""
        for result in results:
            if self._forward and (part := self.parts.load(result.track)) is not None:
                yield from self._pieces(part)
                self.parts.discard(result.track)
            yield result

    def _pieces(self, part: Part) -> Iterator[Piece]:
        offset, track = 0, part.result.track
        for run in self.parts.runs([part]):
            for data in run:
                yield Piece(track, offset, data)
                offset += len(data)
        yield Piece(track, offset, b"", part)


@contextlib.contextmanager
def open_sender(staged: Staged) -> Iterator[Sender]:
    """Find out how parts get home from this process."""
    reachable = staged.reachable
    if reachable and isinstance(staged.store, LocalStore):
        yield Sender(staged.parts(), staged.store.path / "scratch", forward=False)
        return
    with scratch_folder() as scratch:
        parts = staged.parts(scratch) if reachable else PartStore(LocalStore(scratch / "parts"))
        yield Sender(parts, scratch, forward=not reachable)


class Receiver:
    """The staging side: puts pieces together again."""

    def __init__(self, parts: PartStore) -> None:
        self._parts = parts
        self._writers: dict[str, RunWriter] = {}

    def take(self, piece: Piece) -> None:
        """Add a piece; the last one makes the part exist.

        Raises:
            EnvironmentFailure: what arrived is not what was sent.
        """
        with machine_errors("staging a part"):
            if piece.offset == 0 and (old := self._writers.pop(piece.track, None)):
                old.abandon()  # its worker died half-way
            if piece.part is not None and not piece.part.bytes:
                self._parts.save(piece.part)
                return
            if piece.track not in self._writers:
                self._writers[piece.track] = RunWriter(self._parts, piece.track)
            writer = self._writers[piece.track]
            writer.append(piece.data)
            if piece.part is None:
                return
            del self._writers[piece.track]
            if writer.commit() != piece.part.sha256:
                raise EnvironmentFailure(
                    f"the part of track {piece.track} arrived damaged",
                    hint="run the same command again: it continues",
                )
            self._parts.save(piece.part)

    def close(self) -> None:
        """Remove what never became complete."""
        for writer in self._writers.values():
            writer.abandon()
