"""Processes that read for a loader, each at the end of a pipe of its own.

They share nothing, no lock and no queue: so whatever kills one of them, the loader finds the end of
a pipe and says so, and nothing waits for ever. Frames go through the pipe as they lie in memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jatsr_data.batch import Part
from jatsr_data.parts import PartReader, Request
from shards.errors import EnvironmentFailure, JatsrError
from shards.interrupts import without_interrupts

_PATIENCE = 2.0  # seconds after which a worker looks whether its loader is still there


class Inline:
    """Reads in this process, when it is asked for the answer.

    Args:
        reader: answers requests.
    """

    def __init__(self, reader: PartReader) -> None:
        self.pid = os.getpid()
        self._reader = reader
        self._asked: list[Request] = []

    def ask(self, worker: int, request: Request) -> None:
        """See ``Workers``."""
        del worker
        self._asked.append(request)

    def answer(self, worker: int) -> Part:
        """See ``Workers``."""
        del worker
        return self._reader.read(self._asked.pop(0))

    def forget(self) -> bool:
        """See ``Workers``."""
        self._asked.clear()
        return True

    def close(self) -> None:
        """See ``Workers``."""
        self._reader.close()


class Workers:
    """Processes that answer requests, each in the order in which it was asked.

    Args:
        reader: answers requests; every process gets a copy.
        count: of processes.
        start_method: "fork", "spawn", "forkserver"; None for the system's.
    """

    def __init__(self, reader: PartReader, count: int, start_method: str | None) -> None:
        context: Any = multiprocessing.get_context(start_method)
        self.pid = os.getpid()
        self._name = reader.name
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._asked = [0] * count
        self.close = weakref.finalize(self, _end, self.pid, self._processes, self._pipes)
        for _ in range(count):
            ours, theirs = context.Pipe()
            job = (theirs, reader, os.getpid())
            process = context.Process(target=_serve, args=job, daemon=True)
            with without_interrupts():
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def ask(self, worker: int, request: Request) -> None:
        """Ask a worker for something; it is read while others wait."""
        try:
            self._pipes[worker].send(request)
        except OSError as error:
            raise self._dead(worker) from error
        self._asked[worker] += 1

    def answer(self, worker: int) -> Part:
        """The answer to the first request that has none.

        Raises:
            JatsrError: what went wrong while it was read.
            EnvironmentFailure: the worker was killed.
        """
        pipe = self._pipes[worker]
        try:
            found = pipe.recv()
            if isinstance(found, _Header):
                stored = np.empty(found.shape, found.part.stored.dtype)
                _receive(pipe.fileno(), _bytes(stored))
                found = replace(found.part, stored=stored)
        except (EOFError, OSError) as error:
            raise self._dead(worker) from error
        self._asked[worker] -= 1
        if isinstance(found, Part):
            return found
        try:
            raise found
        finally:
            del found  # else the error and this frame would keep each other alive

    def forget(self) -> bool:
        """Drop the answers to all requests that have none; False if a worker cannot go on."""
        try:
            for worker, count in enumerate(self._asked):
                for _ in range(count):
                    self.answer(worker)
        except JatsrError:  # about a batch that nobody wants any more
            return False
        return all(process.is_alive() for process in self._processes)

    def _dead(self, worker: int) -> EnvironmentFailure:
        process = self._processes[worker]
        process.join(_PATIENCE)
        code = process.exitcode or 0
        if code < 0:
            reason = f"killed by {signal.Signals(-code).name}"
            hint = "out of memory is the usual reason: lower num_workers, then resume"
        else:
            reason = f"exit code {code}"
            hint = (
                "see what it said above; with start_method='spawn' the main module needs "
                "if __name__ == '__main__':"
            )
        return EnvironmentFailure(
            f"a process that reads {self._name} has died: {reason}", hint=hint
        )


@dataclass(frozen=True, eq=False)
class _Header:
    """What comes before the frames of a part: the part without them, and their shape."""

    part: Part
    shape: tuple[int, ...]


def _serve(pipe: Connection, reader: PartReader, parent: int) -> None:
    """Answer until the loader is closed or its process has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        while True:
            while not pipe.poll(_PATIENCE):
                if os.getppid() != parent:
                    return
            request = pipe.recv()
            try:
                part = reader.read(request)
            except JatsrError as error:
                pipe.send(error)
                continue
            empty = part.stored[:, :0]
            pipe.send(_Header(replace(part, stored=empty), part.stored.shape))
            _send(pipe.fileno(), _bytes(part.stored))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the loader has gone


def _bytes(array: NDArray[Any]) -> memoryview:
    """An array in C order, as it lies in memory."""
    return array.reshape(-1).view(np.uint8).data


def _send(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _receive(handle: int, data: memoryview) -> None:
    while data:
        count = os.readv(handle, [data])
        if not count:
            raise EOFError
        data = data[count:]


def _end(pid: int, processes: Sequence[BaseProcess], pipes: Sequence[Connection]) -> None:
    """Kill the processes: they hold nothing that has to be put in order."""
    if os.getpid() != pid:
        return  # a child of the process that they belong to
    for process in processes:
        process.kill()
    for process in processes:
        process.join()  # a thread that waits for one of them finds the end of its pipe
    for pipe in pipes:
        pipe.close()
