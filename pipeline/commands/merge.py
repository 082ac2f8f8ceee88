"""``jatsr merge``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.commands.interrupt import interruptible
from pipeline.commands.progress import make_ui


@click.command()
@click.argument("datasets", nargs=-1, required=True, type=click.Path(), metavar="DATASET...")
@click.option("-o", "--output", "dest", required=True, type=click.Path(), help="The new dataset.")
@click.option(
    "--codec-weights",
    type=click.Path(path_type=Path),
    help="Weights the datasets were made with; needed only where there are duplicates.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--json-logs", is_flag=True, help="Progress as JSON lines on standard error.")
def merge(
    datasets: tuple[str, ...], dest: str, codec_weights: Path | None, as_json: bool, json_logs: bool
) -> None:
    """Make one dataset of several that were built with the same options.

    Nothing is encoded again: shards are copied and numbered anew, statistics are merged exactly. A
    track that is in several datasets is taken from the first of them. The datasets stay as they
    are; all may be URLs. Run the same command again to continue an interrupted merge.
    """
    from pipeline.merge import Merge

    ui = make_ui(json_logs)
    with interruptible(ui, "what was copied is kept"):
        merged = Merge(datasets, dest, codec_weights, ui).run()
    manifest = merged.manifest
    samples = sum(entry.samples for entry in manifest.shards)
    hours = sum(e.frames for e in manifest.shards) * manifest.seconds_per_frame / 3600
    if as_json:
        click.echo(
            json.dumps(
                {
                    "dataset": dest,
                    "fingerprint": manifest.fingerprint,
                    "shards": len(manifest.shards),
                    "samples": samples,
                    "audio_hours": hours,
                    "duplicates": merged.duplicates,
                }
            )
        )
    else:
        click.echo(
            f"{dest}: {samples} samples, {hours:.3f} h in {len(manifest.shards)} shards "
            f"of {len(datasets)} datasets; {merged.duplicates} tracks were in more than one"
        )
