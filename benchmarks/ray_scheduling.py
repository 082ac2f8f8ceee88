"""What the driver pays per task on Ray: CPU time and memory, with workers that do nothing.

python benchmarks/ray_scheduling.py [--tasks 100000] [--actors 2] [--ray-address HOST:PORT]
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import click
from common import machine, table

from pipeline.engines.base import Progress
from pipeline.engines.echo import EchoSession, EchoTask
from pipeline.engines.ray import RayEngine
from pipeline.engines.ray_options import RayOptions


def resident() -> int:
    """Bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@click.command()
@click.option("--tasks", "count", default=100_000, show_default=True)
@click.option("--actors", default=2, show_default=True)
@click.option("--ray-address", help="A cluster; a private Ray by default.")
def main(count: int, actors: int, ray_address: str | None) -> None:
    """Measure."""
    tasks = [EchoTask(f"{index:064x}") for index in range(count)]
    samples, seconds, done = [], 0.0, 0
    with RayEngine(ray_address, RayOptions(actors=actors)) as engine:
        list(engine.run(EchoSession(), tasks[:actors]))  # all are there before the clock starts
        wall, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
        for event in engine.run(EchoSession(), tasks):
            if isinstance(event, Progress):
                seconds += event.audio_seconds
                continue
            done += 1
            if done % (count // 100) == 0:
                samples.append(resident() / 1e6)
        wall, process, thread = (
            time.perf_counter() - wall,
            time.process_time() - process,
            time.thread_time() - thread,
        )
    assert (done, seconds) == (count, count)
    quarter = len(samples) // 4
    first, last = statistics.mean(samples[:quarter]), statistics.mean(samples[-quarter:])
    click.echo(machine())
    click.echo(
        table(
            ("what", "measured"),
            [
                ("tasks, of one second of audio each", f"{count}"),
                ("wall time", f"{wall:.0f} s, {count / wall:.0f} tasks/s with {actors} actors"),
                ("CPU of the driver per task", f"{process / count * 1e3:.2f} ms"),
                ("of which in its own thread", f"{thread / count * 1e3:.2f} ms"),
                ("memory of the driver, first quarter", f"{first:.0f} MB"),
                ("memory of the driver, last quarter", f"{last:.0f} MB"),
            ],
        )
    )


if __name__ == "__main__":
    main()
