"""Parts: the finished run of tar members of one track, staged until they are assembled.

``parts/ab/<track>.tar`` holds the run, ``parts/ab/<track>.json`` says what is in it. The JSON is
put into place last, so a part exists if and only if it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.records import TrackResult
from shards.files import canonical_json, printable
from shards.storage import LocalStore, Store

_CHUNK = 8 << 20
_TOGETHER = 64  # parts that are fetched at the same time


@dataclass(frozen=True)
class Part:
    """A staged track: its result, and its samples if it has any."""

    result: TrackResult
    rows: Sequence[Mapping[str, Any]] = ()  # of samples.parquet, without split, shard and source
    bytes: int = 0
    sha256: str = ""

    def document(self) -> dict[str, Any]:
        """JSON-ready; the inverse of ``part_of``."""
        result = asdict(self.result)
        return {
            "result": {k: printable(v) if isinstance(v, str) else v for k, v in result.items()},
            "rows": [{**row, "digest": row["digest"].hex()} for row in self.rows],
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


def part_of(document: Mapping[str, Any]) -> Part:
    """Read ``Part.document``."""
    return Part(
        TrackResult(**document["result"]),
        [{**row, "digest": bytes.fromhex(row["digest"])} for row in document["rows"]],
        document["bytes"],
        document["sha256"],
    )


@dataclass(frozen=True)
class PartStore:
    """The parts of one configuration.

    Args:
        store: where they are.
        scratch: for runs that are not complete; needed where ``store`` is in object storage.
    """

    store: Store
    scratch: Path | None = None
    _made: set[Path] = field(default_factory=set, compare=False, repr=False)

    def temporary(self, track: str) -> Path:
        """Where a run grows: beside its final place, or in the scratch folder."""
        if isinstance(self.store, LocalStore):
            folder = self.store.path / track[:2]
        else:
            assert self.scratch is not None
            folder = self.scratch
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        return folder / f".{track}.{os.getpid()}.tmp"

    def place(self, temporary: Path, track: str) -> None:
        """Put a complete run under its name."""
        if isinstance(self.store, LocalStore):
            os.replace(temporary, self.store.path / _run_name(track))
        else:
            self.store.put(temporary, _run_name(track))
            temporary.unlink()

    def save(self, part: Part) -> None:
        """Make a part exist. Not waited for on disk: assembly checks the hash of what it reads."""
        document = canonical_json(part.document())
        self.store.write(_meta_name(part.result.track), document, durable=False)

    def load(self, track: str) -> Part | None:
        """A staged part, or None where there is no whole one."""
        return next(self.load_all([track]))

    def load_all(self, tracks: Sequence[str]) -> Iterator[Part | None]:
        """Staged parts in order, many fetched at a time; None where there is no whole one."""
        for _, data in self.store.read_many([_meta_name(track) for track in tracks]):
            part = _parsed(data)
            yield part if part and self._has_run(part) else None

    def find_all(self, tracks: Sequence[str]) -> Iterator[Part | None]:
        """The same where most may be missing: objects that are not there are not asked for."""
        if self.store.is_local:
            yield from self.load_all(tracks)
            return
        there = self.store.files()
        parts = self.load_all([track for track in tracks if _meta_name(track) in there])
        for track in tracks:
            yield next(parts) if _meta_name(track) in there else None

    def runs(self, parts: Iterable[Part]) -> Iterator[Iterator[bytes]]:
        """The run of each part in order, in pieces of bounded size; one that is gone is empty."""
        waiting: list[Part] = []
        for part in parts:
            if part.bytes > _CHUNK or isinstance(self.store, LocalStore):
                yield from self._fetched(waiting)
                waiting = []
                yield self._pieces(part)
            else:
                waiting.append(part)
                if len(waiting) == _TOGETHER:
                    yield from self._fetched(waiting)
                    waiting = []
        yield from self._fetched(waiting)

    def discard(self, track: str) -> None:
        """Forget a part."""
        self.store.remove([_meta_name(track), _run_name(track)])

    def _has_run(self, part: Part) -> bool:
        """Where files can be torn by a power cut the size is looked at; objects are whole."""
        if not part.bytes or not self.store.is_local:
            return True
        stat = self.store.stat(_run_name(part.result.track))
        return stat is not None and stat.size == part.bytes

    def _fetched(self, parts: Sequence[Part]) -> Iterator[Iterator[bytes]]:
        names = [_run_name(part.result.track) for part in parts]
        for _, data in self.store.read_many(names):
            yield iter([data] if data else [])

    def _pieces(self, part: Part) -> Iterator[bytes]:
        name = _run_name(part.result.track)
        with contextlib.suppress(FileNotFoundError):
            if isinstance(self.store, LocalStore):
                with (self.store.path / name).open("rb") as file:
                    while piece := file.read(_CHUNK):
                        yield piece
                return
            for offset in range(0, part.bytes, _CHUNK):
                yield self.store.read(name, offset, min(_CHUNK, part.bytes - offset))


class RunWriter:
    """Appends tar runs to a temporary file and puts it into place when the track is complete."""

    def __init__(self, parts: PartStore, track: str) -> None:
        self._parts = parts
        self._track = track
        self._temporary = parts.temporary(track)
        self._file = self._temporary.open("wb")
        self._digest = hashlib.sha256()
        self.bytes = 0

    def append(self, run: bytes) -> int:
        """Append a run; returns its offset."""
        offset = self.bytes
        self._file.write(run)
        self._digest.update(run)
        self.bytes += len(run)
        return offset

    def commit(self) -> str:
        """Put the file under its final name; returns its sha256."""
        self._file.close()
        self._parts.place(self._temporary, self._track)
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()


def _run_name(track: str) -> str:
    return f"{track[:2]}/{track}.tar"


def _meta_name(track: str) -> str:
    return f"{track[:2]}/{track}.json"


def _parsed(data: bytes | None) -> Part | None:
    """None where it is absent or torn by a power cut: built again."""
    try:
        return part_of(json.loads(data)) if data else None
    except (ValueError, KeyError, TypeError):
        return None
