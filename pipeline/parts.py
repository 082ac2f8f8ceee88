"""Parts: the finished run of tar members of one track, staged until they are assembled.

``parts/ab/<track>.tar`` holds the run, ``parts/ab/<track>.json`` says what is in it. The JSON is
renamed into place last, so a part exists if and only if it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.records import TrackResult
from shards.storage import canonical_json, printable, write_atomically


@dataclass(frozen=True)
class Part:
    """A staged track: its result, and its samples if it has any."""

    result: TrackResult
    rows: Sequence[Mapping[str, Any]] = ()  # of samples.parquet, without split, shard and source
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class PartStore:
    """The parts of one configuration."""

    root: Path
    _made: set[Path] = field(default_factory=set, compare=False, repr=False)

    def run_path(self, track: str) -> Path:
        """The tar members of a track."""
        return self.root / track[:2] / f"{track}.tar"

    def _meta_path(self, track: str) -> Path:
        return self.root / track[:2] / f"{track}.json"

    def folder(self, track: str) -> Path:
        """The folder of a track's files, created when first needed."""
        folder = self.root / track[:2]
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        return folder

    def save(self, part: Part) -> None:
        """Make a part exist. Not waited for on disk: assembly checks the hash of what it reads."""
        document = {
            "result": {
                k: printable(v) if isinstance(v, str) else v for k, v in asdict(part.result).items()
            },
            "rows": list(part.rows),
            "bytes": part.bytes,
            "sha256": part.sha256,
        }
        self.folder(part.result.track)
        write_atomically(
            self._meta_path(part.result.track), canonical_json(document), durable=False
        )

    def load(self, track: str) -> Part | None:
        """A staged part, or None where there is no whole one."""
        try:
            document = json.loads(self._meta_path(track).read_bytes())
            part = Part(
                TrackResult(**document["result"]),
                document["rows"],
                document["bytes"],
                document["sha256"],
            )
            if part.bytes and self.run_path(track).stat().st_size != part.bytes:
                return None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # absent, or torn by a power cut: built again
        return part

    def discard(self, track: str) -> None:
        """Forget a part."""
        for path in (self._meta_path(track), self.run_path(track)):
            path.unlink(missing_ok=True)


class RunWriter:
    """Appends tar runs to a temporary file and renames it when the track is complete."""

    def __init__(self, store: PartStore, track: str) -> None:
        self._final = store.run_path(track)
        self._temporary = store.folder(track) / f".{track}.{os.getpid()}.tmp"
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
        os.replace(self._temporary, self._final)
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()
