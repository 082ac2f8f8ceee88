"""How fast crops are read from a local disk: by jatsr, and by others that hold the same samples.

    python benchmarks/reader.py [--hours 30] [--workers 1] [--rounds 3]

Crops have 512 frames, batches 64 crops of high- and low-res codes with caption and key. jatsr also
checks the hash of every sample and computes the roll-off of each crop. The others read

* one random crop of each sample, as their users do, in batches that torch puts together;
* or all crops of each sample, mixed in a buffer of 2,000 crops and put together in the fastest way
  we know; of tars, only the members that are needed are read.

litdata's default decodes many samples at a time, which is slow for samples of this size; it is
measured so, and one by one (``batch_decode=0``).

Every reader has its own process; rounds take turns; medians are printed. "CPU" is processor time of
that process and its workers, which other load on the machine changes less. Files are in memory
before the first round. The others: ``pip install mosaicml-streaming litdata``, best in an
environment of their own; what is not installed is left out.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil
import webdataset as wds
from common import machine, table
from datasets import BATCH, CROP, ROWS, Mixed, random_crops, write_all
from torch.utils.data import DataLoader

from jatsr_data import LatentDataset, LatentLoader

COPIES = 10  # so often shards are listed, so that epochs outlast measurements
Batches = Iterator[Any]


def loaded(samples: Any, workers: int, *, every: bool, kind: Any = DataLoader) -> Batches:
    """High-res codes of batches, epoch after epoch."""
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    if every:
        loader = DataLoader(Mixed(samples), batch_size=None, **options)
    else:
        loader = kind(samples, batch_size=BATCH, collate_fn=random_crops, **options)
    while True:
        yield from (batch["hr"] for batch in loader)


def jatsr(folder: Path, workers: int) -> Batches:
    loader = LatentLoader(LatentDataset(folder, crop_frames=CROP), BATCH, num_workers=workers)
    while True:
        yield from (batch.hr for batch in loader)


def webdataset(folder: Path, workers: int, *, every: bool) -> Batches:
    def named(sample: dict[str, Any]) -> dict[str, Any]:
        members = (sample[name] for name in ("hr.npy", "lr0.npy", "txt", "__key__"))
        return dict(zip(("hr", "lr0", "txt", "key"), members, strict=True))

    urls = sorted(map(str, folder.glob("train/*.tar")))
    needed = (lambda name: name.endswith(("hr.npy", "lr0.npy", ".txt"))) if every else None
    tars = wds.WebDataset(urls, shardshuffle=len(urls), select_files=needed).repeat()
    samples = tars.shuffle(0 if every else 1000).decode().map(named)
    return loaded(samples, workers, every=every)


def mosaicml(folder: Path, workers: int, *, every: bool) -> Batches:
    from streaming import StreamingDataset

    samples = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    return loaded(samples, workers, every=every)


def litdata(folder: Path, workers: int, *, every: bool, **options: Any) -> Batches:
    from litdata import StreamingDataLoader, StreamingDataset

    samples = StreamingDataset(str(folder), shuffle=True, **options)
    return loaded(samples, workers, every=every, kind=StreamingDataLoader)


READERS = {  # name: folder and reader
    "jatsr": ("jatsr", jatsr),
    "jatsr, 10 times the shards": ("large", jatsr),
    "webdataset, one crop per sample": ("jatsr", partial(webdataset, every=False)),
    "webdataset, all crops": ("jatsr", partial(webdataset, every=True)),
    "mosaicml, one crop per sample": ("mosaicml", partial(mosaicml, every=False)),
    "mosaicml, all crops": ("mosaicml", partial(mosaicml, every=True)),
    "litdata, one crop per sample, default": ("litdata", partial(litdata, every=False)),
    "litdata, one crop per sample": ("litdata", partial(litdata, every=False, batch_decode=0)),
    "litdata, all crops": ("litdata", partial(litdata, every=True, batch_decode=0)),
}


def cpu_seconds() -> float:
    """Of this process and its workers."""
    me = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in (me, *me.children(recursive=True)))


def measure(reader: Any, folder: Path, workers: int, seconds: float) -> tuple[float, float]:
    """Crops per second and CPU microseconds per crop, when it has got going."""
    warnings.simplefilter("ignore")
    batches = reader(folder, workers)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds / 2:
        assert next(batches).shape[1:] == (1, ROWS, CROP)
    began, cpu, crops = time.perf_counter(), cpu_seconds(), 0
    while (taken := time.perf_counter() - began) < seconds:
        crops += len(next(batches))
    return crops / taken, (cpu_seconds() - cpu) / crops * 1e6


def memory(folder: Path, workers: int) -> list[list[int]]:
    """MB of each worker's own at 10, 50 and 90 % of an epoch."""
    loader = LatentLoader(LatentDataset(folder, crop_frames=CROP), BATCH, num_workers=workers)
    places, found = [len(loader) * share // 100 for share in (10, 50, 90)], []
    for step, _ in enumerate(loader):
        if step in places:
            children = psutil.Process().children()
            found.append([child.memory_full_info().uss // 1_000_000 for child in children])
    return found


def resume(folder: Path, workers: int) -> dict[str, float]:
    """Seconds to the first batch from the middle of an epoch, and what it took."""
    dataset = LatentDataset(folder, crop_frames=CROP)
    middle = len(dataset) // 2 // BATCH * BATCH
    state = LatentLoader(dataset, BATCH).state_dict() | {"cursor": middle}
    began = time.perf_counter()
    loader = LatentLoader(LatentDataset(folder, crop_frames=CROP), BATCH, num_workers=workers)
    loader.load_state_dict(state)
    next(iter(loader))
    seconds = time.perf_counter() - began
    return {"crops": len(dataset), "seconds": seconds, "state": len(json.dumps(state))}


def _fork_workers() -> None:
    multiprocessing.set_start_method("fork", force=True)  # its own: not spawned as it was


def alone(function: Any, *arguments: Any) -> Any:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _fork_workers) as pool:
        return pool.submit(function, *arguments).result()


@click.command()
@click.option("--hours", default=30.0, show_default=True, help="Of audio, all of it different.")
@click.option("--workers", default=1, show_default=True, help="Processes of each reader.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="Of each measurement.")
def main(hours: float, workers: int, rounds: int, seconds: float) -> None:
    """Measure."""
    work = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-"))
    try:
        write_all(work, hours, COPIES)
        cases = {name: case for name, case in READERS.items() if (work / case[0]).exists()}
        runs = {name: list[tuple[float, float]]() for name in cases}
        for _ in range(rounds):
            for name, (folder, reader) in cases.items():
                runs[name].append(alone(measure, reader, work / folder, workers, seconds))
        held = alone(memory, work / "jatsr", workers)
        resumed = [alone(resume, work / "large", workers) for _ in range(rounds)]
    finally:
        shutil.rmtree(work)
    medians = {name: map(statistics.median, zip(*run, strict=True)) for name, run in runs.items()}
    speeds = {name: tuple(found) for name, found in medians.items()}
    most, least = speeds["jatsr"]
    header = ("reader", "crops/s and worker", "of jatsr's", "CPU us/crop", "of jatsr's")
    rows = [
        (name, f"{rate / workers:.0f}", f"{rate / most:.2f}", f"{cpu:.0f}", f"{cpu / least:.2f}")
        for name, (rate, cpu) in speeds.items()
    ]
    click.echo(f"{machine()}, {workers} workers, medians of {rounds}\n{table(header, rows)}")
    seconds = statistics.median(found["seconds"] for found in resumed)
    for note in (
        f"resumed amid {resumed[0]['crops']} crops: {seconds:.2f} s to the first batch",
        f"bytes of the state: {resumed[0]['state']}",
        f"MB of each worker's own at 10, 50 and 90 % of an epoch: {held}",
        *(f"left out, not installed: {name}" for name in READERS if name not in cases),
    ):
        click.echo(note)


if __name__ == "__main__":
    main()
