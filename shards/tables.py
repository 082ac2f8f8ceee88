"""The two tables of a dataset: ``samples.parquet`` and ``ledger.parquet``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import FormatError
from shards.storage import write_atomically

Status = Literal["ok", "skipped", "failed"]
Row = Mapping[str, Any]

SAMPLES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("track", pa.string()),
        ("excerpt", pa.int32()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),  # bytes from the start of the shard to the first header
        ("bytes", pa.int64()),  # headers and padding included
        ("start_frame", pa.int64()),  # in the track
        ("frames", pa.int32()),
        ("seconds", pa.float64()),
        ("rolloff", pa.list_(pa.float32())),  # hr, lr0, lr1, ...
        ("caption", pa.string()),
        ("caption_source", pa.string()),
        ("tags", pa.map_(pa.string(), pa.string())),
        ("loudness_lufs", pa.float64()),
        ("gain_db", pa.float64()),
        ("source", pa.string()),
    ]
)

LEDGER_SCHEMA = pa.schema(
    [
        ("source", pa.string()),  # path of the input as it was found
        ("status", pa.string()),
        ("track", pa.string()),  # null where the content was never identified
        ("split", pa.string()),
        ("seconds", pa.float64()),
        ("excerpts", pa.int32()),
        ("stage", pa.string()),
        ("reason", pa.string()),  # of a skip, or the error of a failure
        ("hint", pa.string()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)


def table_bytes(rows: Sequence[Row], schema: pa.Schema) -> bytes:
    """Parquet bytes of rows; missing values are nulls."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    return sink.getvalue()


def write_table(path: Path, rows: Sequence[Row], schema: pa.Schema) -> None:
    """Write a table atomically."""
    write_atomically(path, table_bytes(rows, schema))


def read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Rows of a table.

    Raises:
        FormatError: the file is missing, damaged or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(
            f"{path}: expected a parquet table, found: {error}",
            hint="run the same jatsr build command again, or restore the file from a copy",
        ) from error
    missing = set(schema.names) - set(table.column_names)
    if missing:
        raise FormatError(
            f"{path}: expected columns {sorted(schema.names)}, missing {sorted(missing)}"
        )
    rows: list[dict[str, Any]] = table.select(schema.names).to_pylist(maps_as_pydicts="strict")
    return rows
