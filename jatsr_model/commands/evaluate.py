"""``jatsr evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from jatsr_model.commands.evaluate_options import (
    CLIP_SECONDS,
    clip_seconds,
    evaluate_options,
    form_of,
    low_rates,
)
from shards.errors import ConfigError

if TYPE_CHECKING:
    from jatsr_model.metrics.evaluation import Watcher
    from jatsr_model.metrics.settings import Settings


@click.command()
@evaluate_options
@click.pass_context
def evaluate(context: click.Context, /, **options: Any) -> None:
    """Measure how close estimates, or what a model makes, are to references.

    Either compare files: --reference R --estimate E [--low L]. Files of folders belong together by
    their path and their name without its ending.

    Or evaluate a model: --model M --data DIR. Of every file of DIR, mono, a low-res version is made
    for each of --rates, and upsampled as `jatsr upsample` does; --steps to --codec-weights say how.

    Exits with 1 if a file cannot be measured or lacks its partner.
    """
    given = {name for name in options
             if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}  # fmt: skip
    form = form_of(given)
    if options["as_json"] and options["as_csv"]:
        raise ConfigError("--json and --csv: expected one of them, found both")
    if form == "pairs":
        _compare_files(options)
    else:
        _try_model(options)


def _compare_files(options: dict[str, Any]) -> None:
    from jatsr_model.metrics import report as printed
    from jatsr_model.metrics.evaluation import Evaluation
    from jatsr_model.metrics.pairs import find_pairs, missing_lines

    settings = _settings(options, default_seconds=None)
    pairs = find_pairs(options["reference"], options["estimate"], options["low"])
    evaluation = Evaluation(settings, watch=_drawer(options["pictures"], settings))
    rows = list(tqdm(evaluation.run(pairs.cases), "evaluate", total=len(pairs.cases),
                     unit="file", disable=None, leave=False))  # fmt: skip
    report = evaluation.report()
    if options["as_json"]:
        missing = [asdict(item) for item in pairs.missing]
        _print_json(printed.as_json(report, missing))
    else:
        as_csv = options["as_csv"]
        click.echo(printed.as_csv(report) if as_csv else printed.as_text(report), nl=not as_csv)
        for line in missing_lines(pairs.missing):
            click.echo(line, err=True)
    if any(row.problem for row in rows) or (pairs.missing and not options["allow_missing"]):
        raise SystemExit(1)


def _try_model(options: dict[str, Any]) -> None:
    rates = low_rates(options["rates"], options["rate"])
    from jatsr_model.commands.evaluate_model import evaluate_model
    from jatsr_model.metrics import trial_report as printed

    settings = _settings(options, default_seconds=CLIP_SECONDS)
    report = evaluate_model(options, settings, rates, options["pictures"])
    if options["as_json"]:
        _print_json(printed.as_json(report))
    else:
        as_csv = options["as_csv"]
        click.echo(printed.as_csv(report) if as_csv else printed.as_text(report), nl=not as_csv)
    if report.has_failed:
        raise SystemExit(1)


def _settings(options: dict[str, Any], default_seconds: float | None) -> Settings:
    from jatsr_model.metrics.settings import Settings

    return Settings(
        rate=options["rate"],
        bits=options["bits"],
        clip_seconds=clip_seconds(options["clip_seconds"], default_seconds),
        cutoff=options["cutoff"],
        seed=options["seed"],
        baselines=options["baselines"],
    )


def _drawer(folder: Path | None, settings: Settings) -> Watcher | None:
    if folder is None:
        return None
    from jatsr_model.metrics.pictures import save_picture

    return lambda prepared, row: save_picture(folder, prepared, row, settings)


def _print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, ensure_ascii=False, allow_nan=False))
