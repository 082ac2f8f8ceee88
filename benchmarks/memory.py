"""Peak memory of a build of one long file against that of one short file.

    python benchmarks/memory.py [--hours 10]

The files are FLAC, so that they stay small; both are built by one worker process.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click
import numpy as np
import soundfile
from common import jatsr, machine, table

RATE = 44100


def write(path: Path, minutes: float) -> None:
    """A slowly changing chord with a little noise, written minute by minute."""
    random = np.random.default_rng(0)
    time = np.arange(60 * RATE) / RATE
    with soundfile.SoundFile(path, "w", RATE, 1, format="FLAC") as file:
        for minute in range(round(minutes)):
            pitch = 110 * 2 ** (minute % 12 / 12)
            tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3, 5))
            file.write(0.1 * tone + 0.001 * random.standard_normal(len(time)))


@click.command()
@click.option("--hours", default=10.0, show_default=True, help="Length of the long file.")
@click.option(
    "--channels", default="mono", show_default=True, type=click.Choice(["mono", "stereo"])
)
def main(hours: float, channels: str) -> None:
    """Compare peaks."""
    rows: list[tuple[object, ...]] = []
    peaks = []
    for minutes in (10.0, hours * 60):
        folder = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-"))
        write(folder / "x.flac", minutes)
        done = jatsr("build", folder / "x.flac", folder / "out", "--workers", 1, "--lr",
                     "sinc:16000", "--channels", channels)  # fmt: skip
        shutil.rmtree(folder)
        peaks.append((done.peak_self, done.peak_child))
        rows.append(
            (
                f"{minutes:.0f} min",
                f"{done.peak_child / 1e6:.0f} MB",
                f"{done.peak_self / 1e6:.0f} MB",
                f"{done.output['realtime']:.0f}x",
            )
        )
    click.echo(machine())
    click.echo(table(("file", "peak of the worker", "peak of the command", "realtime"), rows))
    own, worker = (b - a for a, b in zip(*peaks, strict=True))
    click.echo(f"difference: worker {worker / 1e6:+.0f} MB, command {own / 1e6:+.0f} MB")


if __name__ == "__main__":
    main()
