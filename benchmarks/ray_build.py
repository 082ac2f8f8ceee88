"""What Ray costs: the same build on Ray and on local processes, in turns, in one run.

    python benchmarks/ray_build.py MUSIC_FOLDER [--limit N] [--rounds N]

Compares the build stage alone (from asking for workers to the last part); starting a private Ray
comes before it and is reported by itself.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

import click
from common import jatsr, machine, table

ENGINES: dict[str, list[object]] = {
    "local, 1 worker": ["--workers", 1],
    "ray, 1 actor": ["--engine", "ray", "--encode-actors", 1],
    "ray, 2 actors": ["--engine", "ray", "--encode-actors", 2],
    "local, 2 workers": ["--workers", 2],
}


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", type=int, help="Only the first N tracks.")
@click.option("--rounds", default=2, show_default=True)
def main(folder: Path, limit: int | None, rounds: int) -> None:
    """Build FOLDER on both engines."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ENGINES}
    hours = 0.0
    for number in range(rounds):
        for name in list(ENGINES) if number % 2 == 0 else list(reversed(ENGINES)):
            out = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-")) / "out"
            limited = ["--limit", limit] if limit else []
            done = jatsr("build", folder, out, "--lr", "sinc:16000", "--captions", "sidecar,tags",
                         *ENGINES[name], *limited)  # fmt: skip
            shutil.rmtree(out.parent)
            hours = done.output["built_audio_seconds"] / 3600
            measured[name].append((done.output["build_seconds"], done.seconds))
    seconds = {name: statistics.median(b for b, _ in runs) for name, runs in measured.items()}
    whole = {name: statistics.median(w for _, w in runs) for name, runs in measured.items()}
    click.echo(machine())
    click.echo(
        table(
            ("engine", "audio", "build stage", "realtime", "whole command"),
            [
                (
                    name,
                    f"{hours:.2f} h",
                    f"{seconds[name]:.1f} s",
                    f"{3600 * hours / seconds[name]:.0f}x",
                    f"{whole[name]:.1f} s",
                )
                for name in ENGINES
            ],
        )
    )
    overhead = seconds["ray, 1 actor"] / seconds["local, 1 worker"] - 1
    click.echo(f"ray against local, one worker: {100 * overhead:+.1f} % time")
    for engine, one, two in (("ray", "1 actor", "2 actors"), ("local", "1 worker", "2 workers")):
        gain = seconds[f"{engine}, {one}"] / seconds[f"{engine}, {two}"]
        click.echo(f"{engine}, two against one: {gain:.2f}x")


if __name__ == "__main__":
    main()
