"""Worker processes on this machine, supervised: a crash costs one track, never the build."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from pipeline.engines import worker
from pipeline.engines.base import Crashed, Session
from shards.errors import EnvironmentFailure, JatsrError

_POLL_SECONDS = 1.0


class _Worker:
    """A worker process and the tasks it holds.

    Args:
        session: what it runs.
        suspect: the only task it gets; None for one that pulls from the queue.
    """

    def __init__(self, session: Session, suspect: Any = None) -> None:
        self.suspect = suspect
        self.assigned: dict[str, Any] = {}  # key -> task, in order of assignment
        self.pulled = False
        self.heard = time.monotonic()
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=worker.main, args=(theirs,), daemon=True)
        with _without_interrupts():
            self.process.start()
        theirs.close()
        with contextlib.suppress(ConnectionError):  # died at once: the first receive says so
            self.connection.send(session)

    def give(self, queue: deque[Any]) -> None:
        """Answer a pull."""
        if self.suspect is not None:
            task = None if self.pulled else self.suspect
        else:
            task = queue.popleft() if queue else None
        self.pulled = True
        if task is None:
            self.connection.send(("end", None))
        else:
            self.assigned[task.key] = task
            self.connection.send(("task", task))

    def close(self) -> int | None:
        """End the process, whatever it is doing; its exit code."""
        self.connection.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self.process.close()
        return code


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Children started inside ignore Ctrl-C from their first instruction: it is ours to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


class LocalEngine:
    """Tasks are dealt one at a time to worker processes.

    When a worker dies, the task it pulled last is the suspect: it is tried once more at the end,
    when nothing else runs, and a second death makes it ``Crashed``. The other tasks that the
    worker held go back to the queue.

    Args:
        workers: processes at a time.
        stall_seconds: a worker that says nothing for so long is taken for dead.
    """

    def __init__(self, workers: int, stall_seconds: float = 1800.0) -> None:
        self._limit = workers
        self._stall = stall_seconds

    def run(self, session: Session, tasks: Sequence[Any]) -> Iterator[Any]:
        """See ``Engine``."""
        queue, suspects = deque(tasks), deque[Any]()
        workers: list[_Worker] = []
        try:
            while queue or suspects or workers:
                self._hire(session, queue, suspects, workers)
                ready = wait([w.connection for w in workers], timeout=_POLL_SECONDS)
                for current in list(workers):
                    silent = time.monotonic() - current.heard
                    if current.connection in ready:
                        kind, value = _hear(current, queue)
                    elif silent > self._stall:
                        kind, value = "dead", f"no sign of life for {self._stall:.0f} s"
                    else:
                        continue
                    if kind == "emit":
                        yield value
                    elif kind == "done":
                        workers.remove(current)
                        current.close()
                    elif kind == "dead":
                        workers.remove(current)
                        yield from _bury(current, value, queue, suspects)
        finally:
            for left in workers:
                left.process.terminate()
            for left in workers:
                left.close()

    def _hire(
        self,
        session: Session,
        queue: deque[Any],
        suspects: deque[Any],
        workers: list[_Worker],
    ) -> None:
        """Start as many workers as there is work that nobody is about to take."""
        while len(workers) < self._limit:
            hungry = sum(not w.pulled for w in workers)
            if len(queue) > hungry:
                workers.append(_Worker(session))
            elif suspects and not queue and not workers:
                workers.append(_Worker(session, suspects.popleft()))
            else:
                return


def _hear(current: _Worker, queue: deque[Any]) -> tuple[str, Any]:
    """Receive one message: what to ``emit``, or that the worker is ``done`` or ``dead``."""
    current.heard = time.monotonic()
    try:
        kind, value = current.connection.recv()
        if kind == "pull":
            current.give(queue)
            return "nothing", None
    except (EOFError, ConnectionError):
        return "dead", ""
    if kind == "fatal":
        error, text = value
        if isinstance(error, JatsrError):
            raise error
        raise EnvironmentFailure(
            f"a worker stopped with an unexpected {type(error).__name__}: {error}\n{text}",
            hint="this is a defect in jatsr: please report it with this text",
        ) from error
    if kind == "result":
        current.assigned.pop(value.key)
    return ("done", None) if kind == "done" else ("emit", value)


def _bury(
    current: _Worker, reason: str, queue: deque[Any], suspects: deque[Any]
) -> Iterator[Crashed]:
    """Deal with a dead worker's tasks."""
    reason = _cause(current.close()) if not reason else f"{reason}; {_cause(current.close())}"
    held = list(current.assigned.values())
    if current.suspect is not None and held:
        yield Crashed(current.suspect, reason)
    elif current.suspect is None and held:
        queue.extendleft(reversed(held[:-1]))
        suspects.append(held[-1])
    elif not current.pulled:
        raise EnvironmentFailure(
            f"a worker process could not start: {reason}",
            hint="try --workers 0 to see the error in this process; run jatsr doctor",
        )


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the worker process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    more = ", often a lack of memory: try fewer --workers" if name == "SIGKILL" else ""
    return f"the worker process was killed by {name}{more}"
