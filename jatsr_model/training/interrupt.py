"""Ctrl-C and SIGTERM ask a training to save and to stop."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME = 3.0  # seconds; a terminal and torchrun both pass a Ctrl-C on


class Interrupt:
    """While entered, the first signal is remembered; another one, later, ends at once.

    Attributes:
        number: of the signal that came; 0 for none.
    """

    def __init__(self) -> None:
        self.number, self._came = 0, 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.number != 0

    def _remember(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.number and now - self._came > SAME:
            raise KeyboardInterrupt  # who asks again does not want to wait for saving
        if not self.number:
            self.number, self._came = number, now
