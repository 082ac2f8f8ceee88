"""Making things in a thread, before they are asked for."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
_PATIENCE = 0.1  # seconds between looks at whether anybody still wants the next one


def ahead(items: Iterable[T], count: int) -> Generator[T, None, None]:
    """The same items; up to ``count`` of them are made ahead.

    What making an item raises is raised where that item would have come. Closing the iterator
    waits for the one that is being made.
    """
    maker = _Maker(items, count)
    atexit.register(maker.stop)  # a thread must not be in foreign code when the interpreter ends
    try:
        while True:
            made = maker.results.get()
            if made is None:
                break
            yield made
        if maker.error is not None:
            raise maker.error
    finally:
        maker.stop()
        maker.error = None
        atexit.unregister(maker.stop)


class _Maker(Generic[T]):
    """The thread.

    Attributes:
        results: what it has made; None is the end.
        error: why it ended.
    """

    def __init__(self, items: Iterable[T], count: int) -> None:
        self.results: queue.Queue[T | None] = queue.Queue(count)
        self.error: BaseException | None = None
        self._items = items
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it after what it is at."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001  raised by ahead()
            self.error = error
        self._put(None)

    def _put(self, item: T | None) -> bool:
        while not self._stopped.is_set():
            try:
                self.results.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False
