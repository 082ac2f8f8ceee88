"""What a build of ten million tracks on 64 GPU nodes needs, from what a small one costs here.

    python benchmarks/scaling.py MUSIC_FOLDER [--limit N] [--tracks N] [--encode X] ...

Builds some of MUSIC_FOLDER twice: into a folder, for the work per hour of audio and the size of the
index, and from and into a simulated bucket, to count requests. The rest is arithmetic, printed with
its assumptions; the driver's cost per track comes from planning.py and ray_scheduling.py.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from common import jatsr, machine, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CODEC_STAGES = ("encode", "pack")
# Per shard: four float64 moments of 1024 channels of z and 72 of the projections, a pair.
_STATISTICS_BYTES = 2 * 4 * (1024 + 72) * 8


@dataclass(frozen=True)
class Costs:
    """Of a small build."""

    core_seconds: float  # per hour of audio, without encoding and packing
    samples_bytes: float  # of samples.parquet per sample
    ledger_bytes: float  # of ledger.parquet per input
    requests: dict[str, float]  # per track


def measure(folder: Path, limit: int) -> Costs:
    """Build a few tracks and look at what came out."""
    work = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-"))
    try:
        done = jatsr("build", folder, work / "out", "--limit", limit).output
        hours = done["built_audio_seconds"] / 3600
        stages = {k: v for k, v in done["stage_seconds"].items() if k not in CODEC_STAGES}
        inputs = sum(done["files"].values())
        return Costs(
            sum(stages.values()) / hours,
            (work / "out" / "samples.parquet").stat().st_size / done["samples"],
            (work / "out" / "ledger.parquet").stat().st_size / inputs,
            count_requests(folder, limit),
        )
    finally:
        shutil.rmtree(work)


def count_requests(folder: Path, limit: int) -> dict[str, float]:
    """Requests per track of a build from and into a bucket, without what a dataset costs once."""
    from buckets import run_object_storage

    from shards.storage import open_store

    with run_object_storage() as storage:
        bucket = storage.make_bucket()
        files = [p for p in sorted(folder.rglob("*")) if p.suffix in (".ogg", ".mp3", ".flac")]
        for path in files[:limit]:
            open_store(bucket).put(path, f"music/{path.name}")
        storage.proxy.requests.clear()
        done = jatsr("build", f"{bucket}/music", f"{bucket}/out", "--captions", "tags").output
        methods = Counter(
            request.method
            for request in storage.proxy.requests
            if "/music/" in request.path or "/parts/" in request.path
        )
    return {name: count / done["files"]["ok"] for name, count in sorted(methods.items())}


@dataclass(frozen=True)
class Assumed:
    """What the arithmetic is about."""

    tracks: int
    minutes: float  # of a track
    megabytes: float  # of a source file
    nodes: int  # with one GPU each
    cores: int  # of a node
    encode: tuple[float, ...]  # audio seconds per GPU-second
    driver_ms: float  # per track
    driver_kb: float  # per track

    @property
    def hours(self) -> float:
        """Of audio."""
        return self.tracks * self.minutes / 60


def loads(costs: Costs, assumed: Assumed) -> list[tuple[object, ...]]:
    """What everything is loaded with, for each speed of encoding."""
    rows: list[tuple[object, ...]] = []
    for speed in assumed.encode:
        reached = min(speed, assumed.cores * 3600 / costs.core_seconds)
        seconds = assumed.hours * 3600 / (assumed.nodes * reached)
        per_second = assumed.tracks / seconds
        # Sources are read twice: for their identity, and to be built.
        megabits = 2 * 8 * assumed.megabytes * per_second / assumed.nodes
        rows.append(
            (
                f"{speed:.0f}x",
                f"{speed * costs.core_seconds / 3600:.1f}",
                f"{seconds / 3600:.1f} h",
                f"{per_second:.0f}/s",
                f"{megabits:.0f} Mbit/s",
                f"{per_second * assumed.driver_ms / 10:.0f} %",
                f"{per_second * sum(costs.requests.values()):.0f}/s",
            )
        )
    return rows


def sizes(costs: Costs, assumed: Assumed) -> list[tuple[object, ...]]:
    """How large the one driver and the index become."""
    codes = 2 * 9 * 2 * 44100 / 512  # bytes per second of a pair of DAC streams
    shards = assumed.hours * 3600 * codes / (256 << 20)
    return [
        ("driver memory", f"{assumed.tracks * assumed.driver_kb / 1e6:.1f} GB"),
        ("shards of 256 MB", f"{shards:.0f}"),
        (
            "samples.parquet",
            f"{assumed.tracks * assumed.minutes * costs.samples_bytes / 1e9:.2f} GB",
        ),
        ("ledger.parquet", f"{assumed.tracks * costs.ledger_bytes / 1e9:.2f} GB"),
        ("stats.zarr", f"{shards * _STATISTICS_BYTES / 1e9:.2f} GB"),
    ]


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", default=24, show_default=True, help="Tracks to build.")
@click.option("--tracks", default=10_000_000, show_default=True)
@click.option("--minutes", default=4.0, show_default=True, help="Of a track.")
@click.option("--megabytes", default=8.0, show_default=True, help="Of a source file.")
@click.option("--nodes", default=64, show_default=True, help="With one GPU each.")
@click.option("--cores", default=16, show_default=True, help="Of a node.")
@click.option("--encode", multiple=True, type=float, default=(500.0, 1000.0, 2000.0),
              show_default=True, help="Pair of DAC streams: seconds per GPU-second.")  # fmt: skip
@click.option("--driver-ms", default=0.66, show_default=True, help="Of the driver, per track.")
@click.option("--driver-kb", default=1.2, show_default=True, help="Of its memory, per track.")
def main(folder: Path, limit: int, **assumed: Any) -> None:
    """Measure, then calculate."""
    costs, model = measure(folder, limit), Assumed(**assumed)
    requests = ", ".join(f"{count:.1f} {name}" for name, count in costs.requests.items())
    measured: list[tuple[object, ...]] = [
        ("CPU stages, core-seconds per audio-hour", f"{costs.core_seconds:.1f}"),
        ("the same as realtime per core", f"{3600 / costs.core_seconds:.0f}x"),
        ("samples.parquet, bytes per sample", f"{costs.samples_bytes:.0f}"),
        ("ledger.parquet, bytes per input", f"{costs.ledger_bytes:.0f}"),
        ("requests per track", requests),
    ]
    header = ("encode per GPU", "cores per GPU", "build", "tracks", "network in per node",
              "driver busy", "bucket requests")  # fmt: skip
    click.echo(machine())
    click.echo(table(("measured", "value"), measured))
    click.echo(f"\n{model}\n")
    click.echo(table(header, loads(costs, model)))
    click.echo()
    click.echo(table(("one for all", "size"), sizes(costs, model)))


if __name__ == "__main__":
    main()
