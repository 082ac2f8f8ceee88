"""Ctrl-C and a polite kill end a long command the same way, with a word on how to go on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import NoReturn

import click

from pipeline.commands.progress import Bar, JsonLines, Lines


@contextlib.contextmanager
def interruptible(ui: Bar | Lines | JsonLines, kept: str) -> Iterator[None]:
    """Run a resumable command; on Ctrl-C or SIGTERM exit with 130.

    Args:
        ui: closed at the end, whatever happens.
        kept: what of the work is kept.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        ui.close()
        click.echo(f"\ninterrupted; {kept}: run the same command again to continue", err=True)
        raise SystemExit(130) from None
    finally:
        ui.close()


def _interrupt(*_: object) -> NoReturn:
    """As Ctrl-C does; not by its signal, which a shell makes its background jobs ignore."""
    raise KeyboardInterrupt
