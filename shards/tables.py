"""The two tables of a dataset: ``samples.parquet`` and ``ledger.parquet``."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import FormatError
from shards.storage import StoreLike, open_store
from shards.tar import DIGEST_BYTES

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
        ("digest", pa.binary(DIGEST_BYTES)),  # of these bytes, see shards.tar.sample_digest
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


def arrow_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table; missing values are nulls."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def write_table(dataset: StoreLike, name: str, table: pa.Table) -> str:
    """Write a table atomically; returns the sha256 of the file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", version="2.6")
    data = sink.getvalue()
    open_store(dataset).write(name, data)
    return hashlib.sha256(data).hexdigest()


def read_arrow(
    dataset: StoreLike, name: str, schema: pa.Schema, columns: Sequence[str] = ()
) -> pa.Table:
    """A table with the columns of a schema, or some of them.

    Raises:
        FormatError: the file is missing, damaged or has other columns.
    """
    store = open_store(dataset)
    where = store.join(name)
    try:
        # Of a remote one a single request, however few columns: it is compressed and small.
        source = store.join(name) if store.is_local else pa.BufferReader(store.read(name))
        with pq.ParquetFile(source) as file:
            missing = set(schema.names) - set(file.schema_arrow.names)
            table = None if missing else file.read(columns=list(columns or schema.names))
    except (pa.ArrowException, OSError) as error:
        raise FormatError(
            f"{where}: expected a parquet table, found: {error}",
            hint="restore the file from a copy, or build the dataset anew with --rebuild",
        ) from error
    if table is None:
        raise FormatError(
            f"{where}: expected columns {sorted(schema.names)}, missing {sorted(missing)}",
            hint="another release wrote it: build the dataset anew with --rebuild",
        )
    return table


def read_table(
    dataset: StoreLike, name: str, schema: pa.Schema, columns: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows of a table, with some columns or all of them; see ``read_arrow``."""
    table = read_arrow(dataset, name, schema, columns)
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="strict")
    return rows
