"""How a build shows what it is doing: a bar, a line now and then, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
from tqdm import tqdm

_LINE_SECONDS = 30.0


def make_ui(json_logs: bool) -> Bar | Lines | JsonLines:
    """The right one for where standard error goes."""
    if json_logs:
        return JsonLines()
    return Bar() if sys.stderr.isatty() else Lines()


def hours(seconds: float) -> str:
    """``1.25 h``, ``3.4 min`` or ``12 s``."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


class Bar:
    """One bar, for people at a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def note(self, message: str) -> None:
        """Say something above the bar."""
        tqdm.write(message, file=sys.stderr)

    def start(self, phase: str, total: float, unit: str) -> None:
        """Begin a phase."""
        self.close()
        if unit == "audio seconds":
            form = (
                "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} audio-hours "
                "[{elapsed}<{remaining}, {postfix}]"
            )
            self._bar = tqdm(total=total / 3600, desc=phase, bar_format=form, file=sys.stderr,
                             postfix="-x realtime", dynamic_ncols=True)  # fmt: skip
            self._scale = 3600.0
        else:
            self._bar = tqdm(total=total, desc=phase, unit=f" {unit}", file=sys.stderr,
                             dynamic_ncols=True)  # fmt: skip
            self._scale = 1.0

    def advance(self, amount: float) -> None:
        """Move the bar."""
        bar = self._bar
        if self._scale != 1.0:
            elapsed = max(bar.format_dict["elapsed"], 1e-9)
            speed = (bar.n + amount / self._scale) * self._scale / elapsed
            bar.set_postfix_str(f"{speed:.1f}x realtime", refresh=False)
            # Planned lengths are the headers' claims; the bar must not run past its end.
            bar.total = max(bar.total, bar.n + amount / self._scale)
        bar.update(amount / self._scale)

    def close(self) -> None:
        """End the phase."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Phase:
    """A phase that speaks at intervals."""

    def __init__(self) -> None:
        self.name, self.total, self.unit = "", 0.0, ""
        self.done, self.began, self.spoke = 0.0, 0.0, 0.0

    def note(self, message: str) -> None:
        """Say something once."""
        self.say({"event": "note", "message": message})

    def start(self, phase: str, total: float, unit: str) -> None:
        """Begin a phase."""
        self.close()
        self.name, self.total, self.unit, self.done = phase, total, unit, 0.0
        self.began = self.spoke = time.monotonic()
        self.say({"event": "start", "phase": phase, "total": total, "unit": unit})

    def advance(self, amount: float) -> None:
        """Count work; speak every 30 seconds."""
        self.done += amount
        now = time.monotonic()
        if now - self.spoke >= _LINE_SECONDS:
            self.spoke = now
            self.say(self.status(now))

    def status(self, now: float) -> dict[str, Any]:
        """Where the phase is."""
        speed = self.done / max(now - self.began, 1e-9)
        left = max(self.total - self.done, 0) / speed if speed else None
        return {
            "event": "progress",
            "phase": self.name,
            "done": round(self.done, 3),
            "total": round(max(self.total, self.done), 3),
            "unit": self.unit,
            "per_second": round(speed, 3),
            "eta_seconds": None if left is None else round(left, 1),
        }

    def close(self) -> None:
        """End the phase."""
        if self.name:
            self.say({"event": "end", "phase": self.name, "done": round(self.done, 3),
                      "unit": self.unit})  # fmt: skip
            self.name = ""

    def say(self, event: dict[str, Any]) -> None:
        raise NotImplementedError


class JsonLines(_Phase):
    """One JSON object per line on standard error, for machines."""

    def say(self, event: dict[str, Any]) -> None:
        """Write an event."""
        click.echo(json.dumps({"time": round(time.time(), 3), **event}), err=True)


class Lines(_Phase):
    """Plain lines, for logs."""

    def say(self, event: dict[str, Any]) -> None:
        """Write an event in words."""
        kind = event["event"]
        if kind == "note":
            click.echo(event["message"], err=True)
        elif kind == "start":
            click.echo(f"{event['phase']}: {self._amount(event['total'])}", err=True)
        elif kind == "progress":
            eta = event["eta_seconds"]
            left = "" if eta is None else f", {hours(eta)} left"
            speed = (
                f"{event['per_second']:.1f}x realtime"
                if self._audio
                else (f"{event['per_second']:.1f} {self.unit}/s")
            )
            click.echo(
                f"{event['phase']}: {self._amount(event['done'])} of "
                f"{self._amount(event['total'])}, {speed}{left}",
                err=True,
            )

    @property
    def _audio(self) -> bool:
        return self.unit == "audio seconds"

    def _amount(self, value: float) -> str:
        return f"{hours(value)} of audio" if self._audio else f"{value:.0f} {self.unit}"
