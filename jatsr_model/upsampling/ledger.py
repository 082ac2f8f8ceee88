"""What became of every file: ``upsampled.jsonl``, a line for each, in the folder of the outputs.

Lines are added while a run goes on, so that what is done survives whatever ends it; the last line
of a name counts. A run that comes to its end leaves one line per file. A row that is not about a
finished output says with ``owned`` that one of an earlier run is still there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jatsr_model.upsampling.sources import Planned
from shards.errors import EnvironmentFailure
from shards.files import canonical_json, write_atomically

LEDGER = "upsampled.jsonl"
BEGUN = "begun"  # status of a file that is in the making; its output may be replaced
_DONE = ("ok", "passed-through")
Row = Mapping[str, Any]


class Ledger:
    """The rows of a folder.

    Args:
        folder: of the outputs.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER
        self._rows = {str(row["name"]): row for row in _read(self._path)}

    def is_done(self, planned: Planned, settings: str) -> bool:
        """Whether the output is there, by these settings, of the file as it is by its date."""
        row = self._rows.get(planned.name, {})
        dates = (row.get("in_bytes"), row.get("in_mtime_ns")) == (planned.size, planned.mtime_ns)
        return dates and self.is_same(planned, str(row.get("sha256")), settings)

    def is_same(self, planned: Planned, digest: str, settings: str) -> bool:
        """Whether the output is there, by these settings, of a file of this content."""
        row = self._rows.get(planned.name, {})
        known = row.get("status") in _DONE and (row.get("sha256"), row.get("settings")) == (
            digest,
            settings,
        )
        with contextlib.suppress(OSError):
            return known and planned.target.stat().st_size == row["out_bytes"]
        return False

    def owns(self, name: str) -> bool:
        """Whether the output of that name is one of ours, and may be replaced."""
        return self.row(name).get("status") == BEGUN or self._is_held(name)

    def row(self, name: str) -> Row:
        """The row of a name; empty if there is none."""
        return self._rows.get(name, {})

    def add(self, row: Row) -> None:
        """Add a row; it survives a kill, and a power cut if the disk keeps its word.

        What was ours stays ours, whatever becomes of the file in this run.

        Raises:
            EnvironmentFailure: it cannot be written.
        """
        name, status = str(row["name"]), row["status"]
        # Of a file that was begun and then killed, the output may be there.
        held = self.owns(name) if status == BEGUN else self._is_held(name)
        if held and status not in _DONE:
            row = {**row, "owned": True}
        self._rows[name] = row
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # A line that a kill cut off is left alone: it is passed over when read.
                file.write((b"\n" if _is_cut(self._path) else b"") + canonical_json(row) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EnvironmentFailure(
                f"{self._path}: cannot be written: {error.strerror or error}",
                hint="free some space or choose another OUT; then run it again: it goes on",
            ) from error

    def _is_held(self, name: str) -> bool:
        """Whether an output of that name was finished once."""
        row = self.row(name)
        return row.get("status") in _DONE or bool(row.get("owned"))

    def close(self) -> None:
        """Leave one line per file, ordered by name."""
        rows = [self._rows[name] for name in sorted(self._rows)]
        if rows:
            write_atomically(self._path, b"".join(canonical_json(row) + b"\n" for row in rows))


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return size > 0 and file.read(1) != b"\n"


def _read(path: Path) -> Iterator[Row]:
    """The rows of a file; lines that are none are passed over: their files are done again."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and "name" in row:
                yield row
