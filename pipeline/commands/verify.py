"""``jatsr verify``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from tqdm import tqdm


@click.command()
@click.argument("dest")
@click.option(
    "--codec-weights",
    type=click.Path(path_type=Path),
    help="Weights the dataset was made with, to derive the statistics again.",
)
@click.option(
    "--no-statistics", is_flag=True, help="Do not derive the statistics again; needs no weights."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(dest: str, codec_weights: Path | None, no_statistics: bool, as_json: bool) -> None:
    """Check every byte of a dataset.

    Hashes every shard, reads every sample, compares tables with shards and derives the statistics
    again. Exits with 1 if anything is not as it should be.
    """
    from jatsr_model.codecs import load
    from jatsr_model.codecs.of_dataset import codec_of
    from shards.manifest import read_manifest
    from shards.storage import open_store
    from shards.verify import Problem
    from shards.verify import verify as check

    store = open_store(dest)
    manifest = read_manifest(store)
    spaces = None if no_statistics else load(codec_of(manifest, codec_weights)).spaces
    steps = len(manifest.shards) + (2 if no_statistics else 3)
    problems: list[Problem] = []
    done: list[str] = []
    for checked in tqdm(check(store, spaces), "verify", total=steps, disable=None, leave=False):
        done.append(checked.name)
        problems += checked.problems
    samples = sum(entry.samples for entry in manifest.shards)
    if as_json:
        found = [{"where": p.where, "what": p.what} for p in problems]
        click.echo(json.dumps({"dataset": store.url, "checked": done, "samples": samples,
                               "statistics": not no_statistics, "problems": found}))  # fmt: skip
    else:
        for problem in problems:
            click.echo(f"{problem.where}: {problem.what}", err=True)
        if not problems:
            what = "" if no_statistics else "; statistics are what the shards give"
            click.echo(
                f"{store.url}: {len(manifest.shards)} shards, {samples} samples verified{what}"
            )
    if problems:
        raise SystemExit(1)
