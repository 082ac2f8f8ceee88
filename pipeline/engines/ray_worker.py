"""A session inside an actor: it runs in a thread, and the driver polls for what it has done.

Nothing here imports Ray, so that the exchange can be tested without it.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.engines.base import Run, failure
from pipeline.engines.collect import Collector
from shards.errors import JatsrError

OUTBOX_BYTES = 4 << 20
_POLL_SECONDS = 1.0
_HEARD_SECONDS = 0.1


@dataclass(frozen=True)
class Reply:
    """What happened since the last reply.

    Attributes:
        events: pickled results and ``Progress``, in their order.
        pulled: tasks that the session has taken since it was given, in all.
        hungry: the session waits for a task and there is none.
        over: the session has come to its end; results will not follow.
        silent: seconds since the session last did anything while it was its turn.
        failure: what it raised, if it did.
    """

    events: Sequence[bytes]
    pulled: int
    hungry: bool
    over: bool
    silent: float
    failure: JatsrError | None


class Worker:
    """Runs one session at a time; what is in flight is bounded by items and bytes.

    The driver bounds the tasks in the inbox, the outbox holds ``OUTBOX_BYTES`` of results, or one
    that is larger; then the session waits. So does it after it took a task, until the driver has
    been told (or is busy for long): when a task kills this process, the driver knows which.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inbox = deque[Any]()
        self._outbox: list[bytes] = []
        self._size = 0
        self._job = -1
        self._run: Run | None = None
        self._pulled = self._told = self._heard = 0
        self._end = self._hungry = self._over = self._full = False
        self._idle = False  # it is not the session's turn
        self._active = time.monotonic()
        self._progress = Collector(self._emit)
        self._failure: JatsrError | None = None

    def start(self, job: int, session: bytes) -> None:
        """Run a pickled session; it stays open for later starts of the same job."""
        if job != self._job:
            self._job, self._run = job, None
            self._pulled = self._told = self._heard = 0
        self._end = self._hungry = self._over = False
        self._failure = None
        self._active = time.monotonic()
        threading.Thread(target=self._work, args=(session,), daemon=True).start()

    def exchange(self, tasks: Sequence[Any], *, end: bool) -> Reply:
        """Take tasks; return as soon as the driver has to know something, or after a second.

        Args:
            tasks: for the inbox.
            end: no more will come.
        """
        with self._change:
            self._heard = self._told  # the driver has received the last reply, or would not call
            self._inbox.extend(tasks)
            self._end = end
            self._hungry = self._hungry and not (tasks or end)
            self._change.notify_all()
            self._change.wait_for(self._urgent, _POLL_SECONDS)
            silent = 0.0 if self._idle else time.monotonic() - self._active
            events, self._outbox, self._size = self._outbox, [], 0
            self._told = self._pulled
            self._change.notify_all()
            return Reply(events, self._pulled, self._hungry, self._over, silent, self._failure)

    def _urgent(self) -> bool:
        """Results and progress alone may wait: they go along with the next pull."""
        much = self._full or self._size > OUTBOX_BYTES // 2
        return self._pulled > self._told or self._hungry or self._over or much

    def _work(self, session: bytes) -> None:
        try:
            if self._run is None:
                opened = pickle.loads(session).open(self._progress.report)  # noqa: S301  our own
                self._run = opened
            for result in self._run(self._tasks()):
                self._emit(result)
            self._progress.flush()
        except BaseException as error:  # noqa: BLE001  raised by the driver
            self._failure = failure(error)
        with self._change:
            self._over = True
            self._change.notify_all()

    def _tasks(self) -> Iterator[Any]:
        while True:
            with self._change:
                self._hungry = not self._inbox and not self._end
                self._wait(lambda: bool(self._inbox) or self._end)
                self._hungry = False
                if not self._inbox:
                    return
                task = self._inbox.popleft()
                self._pulled += 1
                self._wait(lambda: self._heard >= self._pulled, _HEARD_SECONDS)
            yield task

    def _emit(self, event: Any) -> None:
        pickled = pickle.dumps(event, pickle.HIGHEST_PROTOCOL)
        with self._change:
            self._active = time.monotonic()
            if self._size + len(pickled) > OUTBOX_BYTES:
                self._full = True
                self._wait(lambda: not self._outbox)
                self._full = False
            self._outbox.append(pickled)
            self._size += len(pickled)
            if self._urgent():
                self._change.notify_all()

    def _wait(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        """Let the driver act; the session's silence does not count meanwhile."""
        self._idle = True
        self._change.notify_all()
        self._change.wait_for(until, seconds)
        self._idle = False
        self._active = time.monotonic()
