"""What the driver pays per track on Ray: CPU time and memory, with workers that do nothing.

python benchmarks/ray_scheduling.py [--tracks 100000] [--actors 2]

Plans that many files and deals them as a build does, up to the assembly of shards.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
from common import machine, table
from idle import IdleEngine
from planning import write_files

from pipeline.build import Build
from pipeline.engine_of import open_engines
from pipeline.options import make_config
from pipeline.tally import Tally


@dataclass
class Watch:
    """A user interface that looks at the memory of this process."""

    phase: str = ""
    samples: list[float] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Nothing."""

    def start(self, phase: str, total: float, unit: str) -> None:
        """Note the phase."""
        self.phase = phase

    def advance(self, amount: float) -> None:
        """Note the memory, in MB."""
        if self.phase == "build":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.samples.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


@click.command()
@click.option("--tracks", default=100_000, show_default=True)
@click.option("--actors", default=2, show_default=True)
def main(tracks: int, actors: int) -> None:
    """Measure."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    folder = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-"))
    write_files(folder / "in", tracks)
    config = make_config({"engine": "ray", "encode_actors": actors, "captions": "none"})
    watch, tally = Watch(), Tally()
    try:
        with open_engines(config) as engines:
            idle = replace(engines, work=IdleEngine(engines.work))
            build = Build([folder / "in"], folder / "out", config, idle, watch)
            planning, began = time.process_time(), time.perf_counter()
            plan = build.plan()
            dealing, dealt = time.process_time(), time.perf_counter()
            results = build._execution.tracks(plan, [], tally, set())
            ended, over = time.process_time(), time.perf_counter()
    finally:
        shutil.rmtree(folder)
    assert len(results) == tracks
    quarter = max(len(watch.samples) // 4, 1)
    first, last = (statistics.mean(s) for s in (watch.samples[:quarter], watch.samples[-quarter:]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    click.echo(machine())
    click.echo(
        table(
            ("what", "measured"),
            [
                ("tracks", f"{tracks}, {actors} actors"),
                ("wall time", f"{dealt - began:.0f} s planning, {over - dealt:.0f} s dealing"),
                (
                    "CPU of the driver, planning",
                    f"{(dealing - planning) / tracks * 1e3:.2f} ms/track",
                ),
                ("CPU of the driver, dealing", f"{(ended - dealing) / tracks * 1e3:.2f} ms/track"),
                ("memory while dealing, first quarter", f"{first:.0f} MB"),
                ("memory while dealing, last quarter", f"{last:.0f} MB"),
                ("peak memory of the driver", f"{peak:.0f} MB"),
            ],
        )
    )


if __name__ == "__main__":
    main()
