"""Making things in a thread, before they are asked for."""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
_PATIENCE = 2.0  # seconds for what is being made, when nobody wants it any more
_PAUSE = 0.1  # seconds between looks at whether anybody still wants the next one


def ahead(items: Iterable[T], count: int, give_up: Callable[[], None]) -> Generator[T, None, None]:
    """The same items; up to ``count`` of them are made ahead.

    What making an item raises is raised where that item would have come.

    Args:
        items: are made in the thread.
        count: at least 1.
        give_up: is called if the iterator is closed while an item is being made and does not
            become ready soon; the thread is left alone then.
    """
    maker = _Maker(items, count)
    atexit.register(maker.stop)  # a thread should not be in foreign code when the program ends
    try:
        while (made := maker.results.get()) is not None:
            yield made
        if maker.error is not None:
            raise maker.error
    finally:
        if not maker.stop():
            give_up()
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

    def stop(self) -> bool:
        """End it after what it is at; whether it has ended."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:  # which may collect garbage
            self._thread.join(_PATIENCE)
        return not self._thread.is_alive()

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
                self.results.put(item, timeout=_PAUSE)
            except queue.Full:
                continue
            return True
        return False
