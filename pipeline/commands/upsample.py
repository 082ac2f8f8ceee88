"""``jatsr upsample``."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from pipeline.commands.upsample_options import upsample_options
from pipeline.commands.upsample_report import (
    Progress,
    outcome_json,
    outcome_text,
    plan_json,
    plan_text,
)


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(), metavar="IN...")
@click.argument("out", type=click.Path())
@upsample_options
def upsample(
    inputs: tuple[str, ...],
    out: str,
    *,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Give music its upper band back.

    IN are files and folders. OUT is a folder, in which the files of folders are mirrored, or for a
    single file the output itself (.wav, .flac, .ogg, .opus). Both may be URLs: s3:// and gs://, for
    IN also https://.

    What a file already has is kept; above the frequency where it ends, a model generates what is
    missing. A file that lacks nothing is passed through. Run the same command again to go on after
    an interruption, or with new files. Exits with 1 if a file failed.
    """
    from pipeline.upsample.asked import Asked
    from pipeline.upsample.engine import open_crew
    from pipeline.upsample.run import Run

    asked = Asked.of(inputs, out, options)
    ui = Progress()
    with _interruptible(ui), open_crew(asked.engine) as crew:
        if crew.where:
            ui.note(crew.where)
        run = Run(asked, crew, ui)
        if dry_run:
            plan, to = run.plan(), asked.out
            click.echo(json.dumps(plan_json(plan, to)) if as_json else plan_text(plan, to))
            return
        began = time.monotonic()
        outcome = run.run()
    took = time.monotonic() - began
    report = outcome_json(outcome, out, took) if as_json else outcome_text(outcome, out, took)
    click.echo(json.dumps(report, ensure_ascii=False) if as_json else report)
    if outcome.failed_share > options["max_failed"]:
        raise SystemExit(1)


@contextlib.contextmanager
def _interruptible(ui: Progress) -> Iterator[None]:
    """On Ctrl-C or SIGTERM leave nothing half done, say how to go on, and exit with 130 or 143."""
    came: list[int] = []
    raising: Callable[..., NoReturn] = _raiser(came)
    before = signal.signal(signal.SIGTERM, raising)
    try:
        yield
    except KeyboardInterrupt:
        ui.close()
        click.echo(
            "\ninterrupted; finished files are kept: run the same command again to go on", err=True
        )
        raise SystemExit(128 + (came[0] if came else signal.SIGINT)) from None
    finally:
        ui.close()
        signal.signal(signal.SIGTERM, before)


def _raiser(came: list[int]) -> Callable[..., NoReturn]:
    def raising(number: int, _: object) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    return raising
