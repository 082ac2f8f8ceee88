"""The main function of a local worker process.

Imports nothing heavy: thread counts must be set before numerical libraries are loaded, and the
session, which imports them, arrives through the pipe.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from pipeline.engines.base import Progress

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_REPORT_SECONDS = 0.5


class Pipe:
    """The worker's end: pulls tasks, sends results, and progress not too often."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._audio = 0.0
        self._stages: dict[str, float] = {}
        self._last = time.monotonic()

    def tasks(self) -> Iterator[Any]:
        """Tasks until the supervisor says there are no more."""
        while True:
            self._connection.send(("pull", None))
            kind, task = self._connection.recv()
            if kind == "end":
                return
            yield task

    def report(self, progress: Progress) -> None:
        """Collect progress and send it twice a second."""
        self._audio += progress.audio_seconds
        for stage, seconds in progress.stage_seconds.items():
            self._stages[stage] = self._stages.get(stage, 0.0) + seconds
        if time.monotonic() - self._last > _REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what was collected."""
        self._connection.send(("progress", Progress(self._audio, self._stages)))
        self._audio, self._stages, self._last = 0.0, {}, time.monotonic()

    def send(self, kind: str, value: Any) -> None:
        """Send a message."""
        self._connection.send((kind, value))


def main(connection: Connection) -> None:
    """Run the session that arrives first; one core, no Ctrl-C, no life after the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    pipe = Pipe(connection)
    try:
        session = connection.recv()
        for result in session.open(pipe.report)(pipe.tasks()):
            pipe.send("result", result)
        pipe.flush()
        pipe.send("done", None)
    except (EOFError, ConnectionError):
        return  # the supervisor is gone
    except Exception as error:  # noqa: BLE001  re-raised by the supervisor
        with contextlib.suppress(ConnectionError):  # it may have stopped for another worker's sake
            pipe.send("fatal", (error, traceback.format_exc()))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
