"""Progress in small change, collected in workers."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.engines.base import Progress

_REPORT_SECONDS = 0.5


class Collector:
    """Sums progress up and passes it on at most twice a second.

    Args:
        send: where to.
    """

    def __init__(self, send: Callable[[Progress], None]) -> None:
        self._send = send
        self._audio = 0.0
        self._stages: dict[str, float] = {}
        self._last = time.monotonic()

    def report(self, progress: Progress) -> None:
        """Add."""
        self._audio += progress.audio_seconds
        for stage, seconds in progress.stage_seconds.items():
            self._stages[stage] = self._stages.get(stage, 0.0) + seconds
        if time.monotonic() - self._last > _REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Pass on what was collected."""
        self._send(Progress(self._audio, self._stages))
        self._audio, self._stages, self._last = 0.0, {}, time.monotonic()
