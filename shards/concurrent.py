"""Many small requests at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
WORKERS = 16


def concurrently(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results in the order of the items; no more than twice ``WORKERS`` are held at a time.

    The first error ends it: what has not begun by then is left out.
    """
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for item in items:
                if len(waiting) == 2 * WORKERS:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
