"""Worker processes on this machine, supervised: a crash costs one track, never the build."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from pipeline.engines import worker
from pipeline.engines.base import Crashed, Partial, Session
from pipeline.engines.dispatch import Dispatch
from shards.errors import EnvironmentFailure
from shards.interrupts import without_interrupts

_POLL_SECONDS = 1.0
_TRIES = 2


class _Worker:
    """A worker process.

    Args:
        session: what it runs.
        number: not that of any other worker that lives.
        gpu: the only one that it sees; empty for all.
        suspect: whether it gets one suspect and nothing else.
    """

    def __init__(
        self, session: Session, number: int = 0, gpu: str = "", *, suspect: bool = False
    ) -> None:
        self.suspect, self.number = suspect, number
        self.pulls = 0
        self.heard = time.monotonic()
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=worker.main, args=(theirs, gpu), daemon=True)
        with without_interrupts():
            self.process.start()
        theirs.close()
        with contextlib.suppress(ConnectionError):  # died at once: the first receive says so
            self.connection.send(session)

    def give(self, dispatch: Dispatch) -> None:
        """Answer a pull; what is dealt counts as pulled, since the worker waits for it."""
        if self.suspect:
            tasks = [] if self.pulls else dispatch.deal_suspect(self)
        else:
            tasks = dispatch.deal(self)
        self.pulls += 1
        dispatch.pull(self, self.pulls)
        self.connection.send(("task", tasks[0]) if tasks else ("end", None))

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


class LocalEngine:
    """Tasks are dealt one at a time to worker processes.

    When a worker dies, the task it pulled last is the suspect: it is tried once more at the end,
    when nothing else runs, and a second death makes it ``Crashed``. The other tasks that the
    worker held go back to the queue (``Dispatch``).

    Args:
        workers: processes at a time.
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them; each worker gets one.
        stall_seconds: a worker that says nothing for so long is taken for dead.
    """

    def __init__(
        self, workers: int, stall_seconds: float = 1800.0, gpus: Sequence[str] = ()
    ) -> None:
        self._limit, self._gpus = workers, gpus
        self._stall = stall_seconds

    def run(self, session: Session, tasks: Sequence[Any]) -> Iterator[Any]:
        """See ``Engine``."""
        dispatch = Dispatch(tasks, _TRIES)
        workers: list[_Worker] = []
        try:
            while dispatch.queued or dispatch.suspects or workers:
                self._hire(session, dispatch, workers)
                ready = wait([w.connection for w in workers], timeout=_POLL_SECONDS)
                for current in list(workers):
                    silent = time.monotonic() - current.heard
                    # What came since, while a result was used elsewhere, is a sign of life too.
                    if current.connection in ready or (
                        silent > self._stall and current.connection.poll()
                    ):
                        kind, value = _hear(current, dispatch)
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
                        yield from _bury(current, value, dispatch)
        finally:
            for left in workers:
                left.process.terminate()
            for left in workers:
                left.close()

    def _hire(self, session: Session, dispatch: Dispatch, workers: list[_Worker]) -> None:
        """Start as many workers as there is work that nobody is about to take."""
        while len(workers) < self._limit:
            hungry = sum(not w.pulls for w in workers)
            alone = bool(dispatch.suspects) and not dispatch.queued and not workers
            if dispatch.queued <= hungry and not alone:
                return
            number = min(set(range(self._limit)) - {w.number for w in workers})
            gpu = self._gpus[number % len(self._gpus)] if self._gpus else ""
            workers.append(_Worker(session, number, gpu, suspect=alone))


def _hear(current: _Worker, dispatch: Dispatch) -> tuple[str, Any]:
    """Receive one message: what to ``emit``, or that the worker is ``done`` or ``dead``."""
    current.heard = time.monotonic()
    try:
        kind, value = current.connection.recv()
        if kind == "pull":
            current.give(dispatch)
            return "nothing", None
    except (EOFError, OSError):  # perhaps in the middle of a message
        return "dead", ""
    if kind == "fatal":
        raise value
    if kind == "result" and not isinstance(value, Partial):
        dispatch.finish(current, value.key)
    return ("done", None) if kind == "done" else ("emit", value)


def _bury(current: _Worker, reason: str, dispatch: Dispatch) -> Iterator[Crashed]:
    """Deal with a dead worker's tasks."""
    reason = _cause(current.close()) if not reason else f"{reason}; {_cause(current.close())}"
    lost = dispatch.lose(current, blame=True)
    if lost is not None:
        yield Crashed(lost, reason, _TRIES)
    elif not current.pulls:
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
