"""How a build tells what it is doing."""

from __future__ import annotations

from typing import Protocol


class Ui(Protocol):
    """Progress and messages; the command line has several."""

    def note(self, message: str) -> None:
        """Say something once."""
        ...

    def start(self, phase: str, total: float, unit: str) -> None:
        """A phase with a known amount of work begins; the one before it has ended."""
        ...

    def advance(self, amount: float) -> None:
        """Work done in the phase."""
        ...
