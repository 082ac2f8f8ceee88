"""Everything in this process: for tests, for debugging, and where processes are not to be had."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipeline.engines.base import Progress, Session


class InlineEngine:
    """No parallelism and no protection against a decoder that crashes.

    Args:
        hear: told of progress at once; without it, progress comes with the next result.
    """

    def __init__(self, hear: Callable[[Progress], None] | None = None) -> None:
        self._hear = hear

    def run(self, session: Session, tasks: Sequence[Any]) -> Iterator[Any]:
        """See ``Engine``."""
        reports: deque[Progress] = deque()
        work = session.open(self._hear or reports.append)
        for result in work(iter(tasks)):
            while reports:
                yield reports.popleft()
            yield result
        yield from reports
