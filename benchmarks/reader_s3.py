"""How a dataset is read from a slow bucket: share of its bandwidth, first batch, bytes per rank.

    python benchmarks/reader_s3.py [--hours 30] [--workers 1] [--rounds 3] [--json]

The bucket is a server in a process of its own that answers GET and HEAD as S3 does, from files,
50 ms after each request and with 100 MB/s for all connections together. (It is not moto's server:
that reads the whole object for every range, and needs a core for 100 MB/s in ranges of 1 MiB.)
Every measurement has a fresh process and an empty cache. The samples are those of ``reader.py``.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from common import machine, table
from datasets import BATCH, CROP, write_dataset
from reader import alone

from jatsr_data import LatentDataset, LatentLoader, ReadOptions
from shards.manifest import read_manifest

RATE, LATENCY = 100e6, 0.05  # bytes per second of all connections together; seconds per request
PIECE, RANGE = 1 << 16, 8 << 20  # bytes sent at a time; of a request of the plain download
URL = "s3://bucket"
HEAD = "HTTP/1.1 {}\r\nContent-Length: {}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{}\r\n"


class Bucket:
    """A folder as a bucket; counts bytes and requests, notes when first and last byte were sent."""

    def __init__(self, folder: Path, count: Any) -> None:
        self._folder, self._count = folder, count
        self._free = 0.0  # when what was promised so far will have been sent

    async def connection(self, reader: Any, writer: Any) -> None:
        """Answer what comes through a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(LATENCY)
                await self._answer(head.decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, head: str, writer: Any) -> None:
        (method, path, _), *lines = (line.split(" ", 2) for line in head.split("\r\n"))
        headers = {line[0].lower(): line[-1] for line in lines}
        file = self._folder / path.partition("?")[0].lstrip("/").partition("/")[2]
        self._count[1] += 1
        if not file.is_file():
            writer.write(HEAD.format("404 Not Found", 0, "").encode())
            return
        size = end = file.stat().st_size
        first, status, more = 0, "200 OK", ""
        if wanted := headers.get("range:"):
            begin, _, last = wanted.removeprefix("bytes=").partition("-")
            first, end = int(begin), min(int(last or size) + 1, size)
            status = "206 Partial Content"
            more = f"Content-Range: bytes {first}-{end - 1}/{size}\r\n"
        writer.write(HEAD.format(status, end - first, f'ETag: "{size}"\r\n{more}').encode())
        if method == "GET":
            with file.open("rb", buffering=0) as opened:
                for at in range(first, end, PIECE):
                    await self._send(os.pread(opened.fileno(), min(PIECE, end - at), at), writer)

    async def _send(self, data: bytes, writer: Any) -> None:
        now = time.monotonic()
        self._free = max(self._free, now) + len(data) / RATE
        await asyncio.sleep(max(self._free - now, 0.0))
        writer.write(data)
        await writer.drain()
        self._count[0] += len(data)
        self._count[2] = self._count[2] or now
        self._count[3] = time.monotonic()


def serve(port: Any, folder: Path, count: Any) -> None:
    async def run() -> None:
        server = await asyncio.start_server(Bucket(folder, count).connection, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def bucket(folder: Path) -> Iterator[Any]:
    """Start the server and point s3fs to it; gives what it counts."""
    context = multiprocessing.get_context("spawn")
    count, (here, there) = context.Array("d", 4), context.Pipe()
    process = context.Process(target=serve, args=(there, folder, count))
    process.start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{here.recv()}"
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    try:
        yield count
    finally:
        process.kill()
        process.join()


def plain(sizes: dict[str, int]) -> float:
    """Seconds that it takes to download objects in eight threads."""
    import s3fs

    files = s3fs.S3FileSystem()
    urls = {f"{URL}/{name}": size for name, size in sizes.items()}
    ranges = [(u, at, min(at + RANGE, s)) for u, s in urls.items() for at in range(0, s, RANGE)]
    files.exists(URL + "/dataset.json")  # to be connected
    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda r: len(files.cat_file(r[0], start=r[1], end=r[2])), ranges))
    return time.perf_counter() - began


def epochs(cache: str, workers: int, rank: int, world: int, count: int) -> list[Any]:
    """Seconds to the first batch and to the end, of each epoch; the first begins with nothing."""
    began, found = time.perf_counter(), []
    dataset = LatentDataset(URL, crop_frames=CROP, options=ReadOptions(cache_dir=cache))
    loader = LatentLoader(dataset, BATCH, rank, world, num_workers=workers)
    for _ in range(count):
        steps = iter(loader)
        next(steps)
        first = time.perf_counter() - began
        for _ in steps:
            pass
        found.append((first, time.perf_counter() - began))
        began = time.perf_counter()
    return found


def measure(dataset: Path, scratch: Path, workers: int, count: Any) -> Iterator[tuple[str, float]]:
    """Name and value of everything that is measured, once."""
    sizes = {entry.name: entry.bytes for entry in read_manifest(dataset).shards}
    total = sum(sizes.values())

    def cold(rank: int, world: int, passes: int) -> list[Any]:
        cache = tempfile.mkdtemp(dir=scratch)
        count[:] = [0.0] * 4
        try:
            return alone(epochs, cache, workers, rank, world, passes)  # type: ignore[no-any-return]
        finally:
            shutil.rmtree(cache)

    full = total / alone(plain, sizes)
    yield "plain download, MB/s", full / 1e6
    ((first, seconds),) = cold(0, 1, 1)
    fetched, _, begin, end = count[:]
    yield "first batch, s", first
    yield "cold epoch while it fetches, MB/s", fetched / (end - begin) / 1e6
    yield "share of the plain download", fetched / (end - begin) / full
    yield "share from nothing to the last batch", fetched / seconds / full
    yield "fetched by rank 0 of 1, of its share", fetched / total
    for rank in range(4):
        cold(rank, 4, 1)
        yield f"fetched by rank {rank} of 4, of its share", count[0] / total * 4
    (_, cold_seconds), (_, seconds) = cold(0, 1, 2)
    yield "second epoch from the cache, times as fast", cold_seconds / seconds
    yield "fetched in the second epoch, of all", (count[0] - fetched) / total


@click.command()
@click.option("--hours", default=30.0, show_default=True, help="Of audio.")
@click.option("--workers", default=1, show_default=True, help="Processes of the loader.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(hours: float, workers: int, rounds: int, as_json: bool) -> None:
    """Measure."""
    work = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-"))
    runs: dict[str, list[float]] = {}
    try:
        write_dataset(work / "dataset", hours)
        with bucket(work / "dataset") as count:
            for _ in range(rounds):
                for name, value in measure(work / "dataset", work, workers, count):
                    runs.setdefault(name, []).append(value)
    finally:
        shutil.rmtree(work)
    kinds = (statistics.median, min, max)
    rows = [(name, *(f"{kind(found):.2f}" for kind in kinds)) for name, found in runs.items()]
    shown = table(("what", "median", "least", "most"), rows)  # type: ignore[arg-type]
    head = f"{machine()}, {workers} workers, {RATE / 1e6:g} MB/s, {LATENCY * 1e3:g} ms"
    click.echo(json.dumps(runs) if as_json else f"{head}\n{shown}")


if __name__ == "__main__":
    main()
