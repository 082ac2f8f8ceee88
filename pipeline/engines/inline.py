"""Everything in this process: for tests, for debugging, and where processes are not to be had."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.engines.base import Progress, Session


class InlineEngine:
    """No parallelism and no protection against a decoder that crashes."""

    def run(self, session: Session, tasks: Sequence[Any]) -> Iterator[Any]:
        """See ``Engine``."""
        reports: deque[Progress] = deque()
        work = session.open(reports.append)
        for result in work(iter(tasks)):
            while reports:
                yield reports.popleft()
            yield result
        yield from reports
