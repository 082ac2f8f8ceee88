"""``jatsr upsample``."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from jatsr_model.commands.upsample_options import upsample_options
from jatsr_model.commands.upsample_report import (
    Progress,
    outcome_json,
    outcome_text,
    plan_json,
    plan_text,
)

if TYPE_CHECKING:
    from jatsr_model.upsampling.batch import Batch
    from jatsr_model.upsampling.output_format import OutputFormat
    from jatsr_model.upsampling.render import Renderer
    from jatsr_model.upsampling.settings import Settings


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
    overwrite: bool,
    **options: Any,
) -> None:
    """Give music its upper band back.

    IN are files and folders. OUT is a folder, in which the files of folders are mirrored, or for a
    single file the output itself (.wav, .flac, .ogg, .opus).

    What a file already has is kept; above the frequency where it ends, a model generates what is
    missing. A file that lacks nothing is passed through. Run the same command again to go on after
    an interruption, or with new files. Exits with 1 if a file failed.
    """
    from jatsr_model.upsampling.folder import locked

    run = _Run(inputs, out, overwrite=overwrite, **options)
    began = time.monotonic()
    if dry_run:
        plan = run.batch().plan()
        click.echo(json.dumps(plan_json(plan)) if as_json else plan_text(plan))
        return
    guard = contextlib.nullcontext() if run.is_file else locked(run.out)
    ui = Progress()
    with _interruptible(ui), guard:
        batch = run.batch()
        outcome = batch.run(batch.plan(), run.renderer, ui)
    took = time.monotonic() - began
    report = outcome_json(outcome, out, took) if as_json else outcome_text(outcome, out, took)
    click.echo(json.dumps(report, ensure_ascii=False) if as_json else report)
    if outcome.counts["failed"]:
        raise SystemExit(1)


class _Run:
    """What was asked for."""

    def __init__(
        self, inputs: tuple[str, ...], out: str, *, overwrite: bool, **options: Any
    ) -> None:
        from dataclasses import replace

        from jatsr_model.upsampling.formats import ending_of, names_a_file
        from jatsr_model.upsampling.output_format import output_format
        from jatsr_model.upsampling.sources import refuse_url

        refuse_url("OUT", out)
        for text in inputs:
            refuse_url("IN", text)
        self.inputs, self.out, self.options = inputs, Path(out), options
        self.overwrite = overwrite
        self.is_file = names_a_file(inputs, self.out)
        self.ending = ending_of(options["container"], self.out, is_file=self.is_file)
        self.form: OutputFormat = output_format(Path(f"x{self.ending}"), options["bits"])
        asked = _settings(options)
        if asked.rate is not None:
            asked = replace(asked, rate=self.form.file_rate(asked.rate))
        self.settings = asked

    def batch(self) -> Batch:
        """Files and ledger."""
        from jatsr_model.upsampling.batch import Batch
        from jatsr_model.upsampling.folder import expect_free
        from jatsr_model.upsampling.ledger import Ledger
        from jatsr_model.upsampling.sources import find_files, one_file
        from shards.errors import ConfigError

        if self.is_file:
            files = [one_file(self.inputs[0], self.out)]
            expect_free(self.out, overwrite=self.overwrite)
            return Batch(files, None, "", overwrite=True)
        files = find_files(self.inputs, self.out, self.ending)
        if not files:
            raise ConfigError(f"IN {' '.join(self.inputs)}: expected files, found none")
        asked = self.options["precision"] or ""  # not what a device makes of it
        digest = self.settings.digest(_weights(self.options["model"]), repr(self.form), asked)
        return Batch(files, Ledger(self.out), digest, overwrite=self.overwrite)

    def renderer(self) -> Renderer:
        """With the model in memory."""
        from dataclasses import replace

        from jatsr_model.training.environment import Place, device_of
        from jatsr_model.upsampling.model import load_model
        from jatsr_model.upsampling.render import Renderer
        from jatsr_model.upsampling.settings import IDENTITY
        from shards.errors import ConfigError

        if self.options["model"] == IDENTITY:
            return Renderer(None, self.settings, self.form)
        device = device_of(self.options["device"], Place())
        on_gpu = device.type == "cuda"
        model = load_model(Path(self.options["model"]), device, self.options["codec_weights"])
        if self.options["target_rolloff"] is not None and not model.has_rolloff:
            raise ConfigError(
                f"--target-rolloff: the model {model.name} knows no roll-offs", hint="leave it out"
            )
        settings = replace(
            self.settings,
            precision=self.options["precision"] or ("bf16" if on_gpu else "fp32"),
            batch_size=self.options["batch_size"] or (16 if on_gpu else 1),
        )
        return Renderer(model, settings, self.form, self.options["text_encoder"])


def _settings(options: dict[str, Any]) -> Settings:
    from jatsr_model.upsampling.settings import Settings

    names = ("rate", "steps", "solver", "grid", "guidance", "text_guidance", "prompt", "seed",
             "window_frames")  # fmt: skip
    given = {name: options[name] for name in names if options[name] is not None}
    if options["target_rolloff"] is not None:
        given["target_hz"] = options["target_rolloff"]
    return Settings(**given)


def _weights(model: str) -> str:
    """What the ledger knows a model by."""
    from jatsr_model.upsampling.model import model_digest
    from jatsr_model.upsampling.settings import IDENTITY

    return IDENTITY if model == IDENTITY else model_digest(Path(model))


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
