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
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from pipeline.engines.base import failure
from pipeline.engines.collect import Collector

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class _Alone(BaseException):
    """The supervisor is gone; unlike a ``ConnectionError`` it cannot come from a session."""


class Pipe:
    """The worker's end: pulls tasks, sends results, and progress not too often."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.progress = Collector(lambda progress: self.send("progress", progress))

    def tasks(self) -> Iterator[Any]:
        """Tasks until the supervisor says there are no more."""
        while True:
            self.send("pull", None)
            kind, task = self.receive()
            if kind == "end":
                return
            yield task

    def send(self, kind: str, value: Any) -> None:
        """Send a message."""
        try:
            self._connection.send((kind, value))
        except ConnectionError as error:
            raise _Alone from error

    def receive(self) -> Any:
        """Wait for a message."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise _Alone from error


def main(connection: Connection, gpu: str = "") -> None:
    """Run the session that arrives first; one core, no Ctrl-C, no life after the parent's.

    Args:
        connection: to the supervisor.
        gpu: the only one to be seen; empty for all.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    pipe = Pipe(connection)
    try:
        session = pipe.receive()
        for result in session.open(pipe.progress.report)(pipe.tasks()):
            pipe.send("result", result)
        pipe.progress.flush()
        pipe.send("done", None)
    except _Alone:
        return
    except Exception as error:  # noqa: BLE001  raised by the supervisor
        with contextlib.suppress(_Alone):  # it may have stopped for another worker's sake
            pipe.send("fatal", failure(error))


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
