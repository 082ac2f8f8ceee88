"""How ``jatsr train`` shows where it is: a bar, or a line now and then."""

from __future__ import annotations

import sys
import time

import click
from tqdm import tqdm

_LINE_SECONDS = 30.0


def training_bar(total: int, start: int) -> TerminalBar | Lines:
    """The right one for where standard error goes.

    Args:
        total: steps of the training.
        start: of them, taken by earlier runs.
    """
    return TerminalBar(total, start) if sys.stderr.isatty() else Lines(total, start)


class TerminalBar:
    """One bar, for people at a terminal."""

    def __init__(self, total: int, start: int) -> None:
        self._bar = tqdm(total=total, initial=start, desc="train", unit=" steps", file=sys.stderr,
                         dynamic_ncols=True)  # fmt: skip

    def show(self, step: int, loss: float, audio_hours_per_hour: float) -> None:
        """Move the bar; it says how long the rest takes."""
        self._bar.set_postfix_str(_figures(loss, audio_hours_per_hour), refresh=False)
        self._bar.update(step - self._bar.n)

    def note(self, message: str) -> None:
        """Say something above the bar."""
        tqdm.write(message, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Lines:
    """A line every 30 seconds, for logs."""

    def __init__(self, total: int, start: int) -> None:
        self._total, self._start = total, start
        self._began = time.monotonic()
        self._spoke = self._began - _LINE_SECONDS

    def show(self, step: int, loss: float, audio_hours_per_hour: float) -> None:
        """Say a line if it is time, or the last step."""
        now = time.monotonic()
        if now - self._spoke < _LINE_SECONDS and step < self._total:
            return
        self._spoke = now
        pace = (now - self._began) / max(step - self._start, 1)
        left = tqdm.format_interval(pace * (self._total - step))
        figures = _figures(loss, audio_hours_per_hour)
        self.note(f"train: {step} of {self._total} steps, {left} left, {figures}")

    def note(self, message: str) -> None:
        """Say something."""
        click.echo(message, err=True)

    def close(self) -> None:
        """Nothing is left to say."""


def _figures(loss: float, audio_hours_per_hour: float) -> str:
    return f"loss {loss:.4g}, {audio_hours_per_hour:.0f} audio-hours/hour"
