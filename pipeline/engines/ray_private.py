"""A Ray of one's own on this machine, and what starting Ray changes in a process, undone."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import ray
import ray.exceptions

from shards.errors import EnvironmentFailure

_OBJECT_STORE_BYTES = 256 << 20
_LONGEST_TEMPORARY = 25  # a socket's path has at most 107 bytes, of which Ray wants the rest
_CHANGED_BY_RAY = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED", "PYTHONBREAKPOINT")


def start(folder: str, cpus: float | None) -> None:
    """Start Ray and connect to it: no dashboard, no usage statistics, nothing outside ``folder``.

    Args:
        folder: for sockets and logs.
        cpus: that it may deal out; None: as many as there are cores.

    Raises:
        EnvironmentFailure: it does not start.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = _token()
    try:
        ray.init(
            "local",
            num_cpus=cpus and math.ceil(cpus),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _temp_dir=folder,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise EnvironmentFailure(
            f"expected Ray to start on this machine, found: {error}",
            hint="use --engine local, which needs no Ray; run jatsr doctor",
        ) from error


@functools.cache
def _token() -> str:
    """A secret for the private Rays of this process; Ray would keep one in the home directory."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder with a short path; removed at the end, whatever Ray still writes into it."""
    parent = tempfile.gettempdir()
    if len(parent) > _LONGEST_TEMPORARY:
        parent = "/tmp"  # noqa: S108  made by mkdtemp
    folder = tempfile.mkdtemp(prefix="jatsr-", dir=parent)
    try:
        yield folder
    finally:
        for _ in range(50):
            shutil.rmtree(folder, ignore_errors=True)
            if not Path(folder).exists():
                break
            time.sleep(0.1)


@contextlib.contextmanager
def process_as_it_was() -> Iterator[None]:
    """Around ``ray.init`` ... ``ray.shutdown``, which change things in this process: undo that."""
    kept = {name: os.environ.get(name) for name in _CHANGED_BY_RAY}
    # Ray prints what raylets report, a dead worker for example, on standard output. That belongs
    # to the results of commands, and what matters of it is in the errors that engines raise.
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray._private.worker._worker_logs_enabled = True
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def keep_sigterm() -> Iterator[None]:
    """Around ``ray.init``, which takes SIGTERM for itself."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
