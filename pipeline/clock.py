"""Where time goes: exclusive seconds per stage of a chain of generators."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class StageClock:
    """Charges elapsed time to the innermost stage that is running.

    Stages are generators that pull from each other; a plain stopwatch around one would also count
    all those before it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = time.perf_counter()

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge the block to ``name``, less what inner stages take."""
        self._charge()
        self._stack.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def timed(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The same items; producing each is charged to ``name``."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def take(self) -> dict[str, float]:
        """Seconds per stage since the last call."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken
