"""Speed of a whole build with the embedded codec, start-up excluded.

    python benchmarks/mdct_build.py MUSIC_FOLDER [--limit N]

Reports audio seconds per second of the build stage: from dealing the first track to its last part.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click
from common import jatsr, machine, table

CASES = (
    ("pair (sinc:16000), tags", ["--lr", "sinc:16000", "--captions", "sidecar,tags"]),
    ("defaults: sinc + filters, measured captions", []),
)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", type=int, help="Only the first N tracks.")
@click.option("--workers", multiple=True, type=int, default=(1, 2), show_default=True)
def main(folder: Path, limit: int | None, workers: tuple[int, ...]) -> None:
    """Build FOLDER with several settings in one run and compare."""
    rows: list[tuple[object, ...]] = []
    for name, options in CASES:
        for count in workers:
            out = Path(tempfile.mkdtemp(prefix="jatsr-benchmark-")) / "out"
            limited = ["--limit", limit] if limit else []
            done = jatsr("build", folder, out, "--workers", count, *options, *limited).output
            shutil.rmtree(out.parent)
            stages = sorted(done["stage_seconds"].items(), key=lambda item: -item[1])
            total = sum(done["stage_seconds"].values())
            rows.append(
                (
                    name,
                    count,
                    f"{done['built_audio_seconds'] / 3600:.2f} h",
                    f"{done['realtime']:.0f}x",
                    ", ".join(f"{stage} {100 * s / total:.0f}%" for stage, s in stages[:5]),
                )
            )
    click.echo(machine())
    click.echo(table(("case", "workers", "audio", "realtime", "where time goes"), rows))


if __name__ == "__main__":
    main()
