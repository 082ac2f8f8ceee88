"""What became of every file: ``upsampled.jsonl``, a line for each, in the folder of the outputs.

Rows are added while a run goes on, so that what is done survives whatever ends it; the last row
of a name counts. A run that comes to its end leaves one line per file. In object storage, where
nothing can be appended to, rows are objects of their own until then. A row that is not about a
finished output says with ``owned`` that one of an earlier run is still there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.upsample.sources import Found
from shards.errors import EnvironmentFailure
from shards.files import canonical_json, printable
from shards.storage import LocalStore, Store

LEDGER = "upsampled.jsonl"
ROWS = ".upsampling/rows"
_DONE = ("ok", "passed-through")
Row = Mapping[str, Any]


class Ledger:
    """The rows of a folder.

    Args:
        store: the folder of the outputs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pieces = [] if store.is_local else sorted(store.files(ROWS))
        self._rows: dict[str, Row] = {}
        for _, data in store.read_many([LEDGER, *self._pieces]):
            self._rows |= {str(row["name"]): row for row in _rows(data or b"")}
        self._inputs = {row.get("input"): row for row in self._rows.values() if is_done(row)}

    def row(self, name: str) -> Row:
        """The row of a name; empty if there is none."""
        return self._rows.get(name, {})

    def owns(self, name: str) -> bool:
        """Whether the output of that name is one of ours, and may be replaced."""
        row = self.row(name)
        return is_done(row) or bool(row.get("owned"))

    def owner(self, name: str) -> str | None:
        """The place of the input that an output of ours was made of."""
        return self.row(name).get("input") if self.owns(name) else None

    def has_done(self, found: Found) -> bool:
        """Whether an input, as it is by its date, is one that an output was made of."""
        return has_dates(self._inputs.get(printable(found.place), {}), found)

    @property
    def failed(self) -> frozenset[str]:
        """Names of outputs that could not be made."""
        return frozenset(name for name, row in self._rows.items() if row["status"] == "failed")

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows; they survive a kill, and a power cut if the disk keeps its word.

        What was ours stays ours, whatever becomes of the file in this run.

        Raises:
            EnvironmentFailure: they cannot be written.
        """
        lines = b""
        for row in rows:
            name = str(row["name"])
            if self.owns(name) and not is_done(row):
                row = {**row, "owned": True}
            self._rows[name] = row
            lines += canonical_json(row) + b"\n"
        if not lines:
            return
        if isinstance(self._store, LocalStore):
            _append(self._store.path / LEDGER, lines)
        else:
            last = int(self._pieces[-1].rpartition("/")[2]) if self._pieces else 0
            self._pieces.append(f"{ROWS}/{last + 1:09d}")
            self._store.write(self._pieces[-1], lines)

    def close(self) -> None:
        """Leave one line per file, ordered by name."""
        rows = [self._rows[name] for name in sorted(self._rows)]
        if rows:
            self._store.write(LEDGER, b"".join(canonical_json(row) + b"\n" for row in rows))
        self._store.remove(self._pieces)
        self._pieces = []


def is_done(row: Row) -> bool:
    """Whether a row is about an output that is there."""
    return row.get("status") in _DONE


def has_dates(row: Row, found: Found) -> bool:
    """Whether a row is of a file with this size and date; without a date nobody knows."""
    dates = (row.get("in_bytes"), row.get("in_mtime_ns"))
    return bool(found.mtime_ns) and dates == (found.size, found.mtime_ns)


def _append(path: Path, lines: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            # A line that a kill cut off is left alone: it is passed over when read.
            file.write((b"\n" if _is_cut(path) else b"") + lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise EnvironmentFailure(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="free some space or choose another OUT; then run it again: it goes on",
        ) from error


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return size > 0 and file.read(1) != b"\n"


def _rows(data: bytes) -> Iterator[Row]:
    """The rows of a file; lines that are none are passed over: their files are done again."""
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and "name" in row and "status" in row:
                yield row
