"""Rows of the ledger: of files, of results, and of what an earlier build published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.identify import Scanned
from shards.tables import LEDGER_SCHEMA

Row = Mapping[str, Any]
GONE = "the file is gone or has changed; its samples stay (--rebuild drops them)"
_ABOUT_FILES = ("duplicate of ", "not audio", "beyond --limit")


def ledger_row(item: Scanned, status: str, **values: object) -> dict[str, object]:
    """A row for a file; columns not given are null."""
    return {"status": status, "track": item.track or None, **place(item), **values}


def place(item: Scanned) -> dict[str, object]:
    """The columns that say where a file is."""
    return {
        "source": item.found.name,
        "bytes": item.found.size,
        "mtime_ns": item.found.mtime_ns,
    }


def finished(ledger: Iterable[Row], *, retry_failed: bool) -> dict[str, Row]:
    """Rows of tracks that are not built again, by track."""
    return {
        row["track"]: row
        for row in ledger
        if row["track"]
        and not (row["reason"] or "").startswith(_ABOUT_FILES)
        and (row["status"] != "failed" or not retry_failed)
    }


def complete(rows: Sequence[Row], published: Iterable[Row]) -> list[dict[str, Any]]:
    """All columns and all tracks of the dataset, in a stable order.

    Args:
        rows: one per file found now.
        published: the ledger so far; tracks whose files are no longer found stay in it.
    """
    present = {row["track"] for row in rows if row["status"] == "ok"}
    kept = [
        {**row, "reason": GONE}
        for row in published
        if row["status"] == "ok" and row["track"] not in present
    ]
    whole = [{name: row.get(name) for name in LEDGER_SCHEMA.names} for row in (*rows, *kept)]
    return sorted(whole, key=lambda row: (str(row["source"]), str(row["track"])))


def union(ledgers: Iterable[Iterable[Row]]) -> list[dict[str, Any]]:
    """One ledger of several datasets.

    Of the rows of one track the first that is ok counts, else the first; the others become
    duplicates of it.
    """
    rows = [row for ledger in ledgers for row in ledger]
    deciding: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["status"] != "ok"):  # stable
        if row["track"] and not (row["reason"] or "").startswith(_ABOUT_FILES):
            deciding.setdefault(row["track"], row)
    return sorted(
        (_or_duplicate(row, deciding.get(row["track"], row)) for row in rows),
        key=lambda row: (str(row["source"]), str(row["track"])),
    )


def _or_duplicate(row: Row, deciding: Row) -> dict[str, Any]:
    if row is deciding or (row["reason"] or "").startswith(_ABOUT_FILES):
        return dict(row)
    kept = {name: row[name] for name in ("source", "track", "bytes", "mtime_ns")}
    empty = dict.fromkeys(LEDGER_SCHEMA.names)
    return {**empty, **kept, "status": "skipped", "reason": f"duplicate of {deciding['source']}"}
