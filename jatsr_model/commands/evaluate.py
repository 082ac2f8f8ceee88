"""``jatsr evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from shards.errors import ConfigError

if TYPE_CHECKING:
    from jatsr_model.metrics.evaluation import Watcher
    from jatsr_model.metrics.settings import Settings

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--reference", type=_PATH, required=True, help="The originals: a file or a folder.")
@click.option("--estimate", type=_PATH, required=True, help="What to measure, named alike.")
@click.option("--low", type=_PATH, help="The low-res inputs, measured beside the estimates.")
@click.option("--cutoff", type=float,
              help="Hz, where the inputs end. [default: found from --low]")  # fmt: skip
@click.option("--rate", type=click.IntRange(8000, 384000), default=44100, show_default=True,
              help="Hz; everything is compared at this rate.")  # fmt: skip
@click.option("--bits", type=click.Choice(["float", "16", "24"]), default="float",
              show_default=True, help="Round all signals to so many bits first.")  # fmt: skip
@click.option("--clip-seconds", type=float,
              help="Compare so much from the middle of each file. [default: all]")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path),
              help="Write a picture of the spectrograms of every file there.")  # fmt: skip
@click.option("--allow-missing", is_flag=True, help="Files without a partner are no failure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a line per file and candidate.")
def evaluate(
    reference: Path,
    estimate: Path,
    low: Path | None,
    pictures: Path | None,
    allow_missing: bool,
    as_json: bool,
    as_csv: bool,
    **fixed: Any,
) -> None:
    """Measure how close estimates are to references.

    Files of folders belong together by their path and their name without its ending. Exits with 1
    if a file cannot be measured or lacks its partner.
    """
    if as_json and as_csv:
        raise ConfigError("--json and --csv: expected one of them, found both")
    from jatsr_model.metrics import report as printed
    from jatsr_model.metrics.evaluation import Evaluation
    from jatsr_model.metrics.pairs import find_pairs, missing_lines
    from jatsr_model.metrics.settings import Settings

    settings = Settings(**fixed)
    pairs = find_pairs(reference, estimate, low)
    watch = None if pictures is None else _drawer(pictures, settings)
    evaluation = Evaluation(settings, watch=watch)
    rows = list(tqdm(evaluation.run(pairs.cases), "evaluate", total=len(pairs.cases),
                     unit="file", disable=None, leave=False))  # fmt: skip
    report = evaluation.report()
    if as_json:
        missing = [asdict(item) for item in pairs.missing]
        click.echo(json.dumps(printed.as_json(report, missing), ensure_ascii=False,
                              allow_nan=False))  # fmt: skip
    else:
        click.echo(printed.as_csv(report) if as_csv else printed.as_text(report), nl=not as_csv)
        for line in missing_lines(pairs.missing):
            click.echo(line, err=True)
    if any(row.problem for row in rows) or (pairs.missing and not allow_missing):
        raise SystemExit(1)


def _drawer(folder: Path, settings: Settings) -> Watcher:
    from jatsr_model.metrics.pictures import save_picture

    return lambda prepared, row: save_picture(folder, prepared, row, settings)
