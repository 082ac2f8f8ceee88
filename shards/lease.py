"""One writer in a bucket: a small object that its holder keeps changing.

There are no locks in object storages, and clocks differ. A lease that does not change for
``LEASE_SECONDS`` of the watcher's own clock belongs to nobody. Where two find it dead in the same
moment, or where a holder was cut off for so long, one of them loses it and is told so at the end
of its ``with``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.errors import ConfigError, EnvironmentFailure, JatsrError
from shards.files import canonical_json

if TYPE_CHECKING:
    from shards.remote import RemoteStore

LEASE_SECONDS = 60.0


@contextlib.contextmanager
def hold_lease(
    store: RemoteStore,
    name: str,
    seconds: float | None = None,
    *,
    doing: str = "building in",
    option: str = "DEST",
) -> Iterator[None]:
    """Be the only writer in a store while the ``with`` lasts.

    Args:
        store: what is guarded.
        name: of the lease's object.
        seconds: without a change after which a lease is dead; None for ``LEASE_SECONDS``.
        doing: what its holder does there, for messages.
        option: that names the store, for messages.

    Raises:
        ConfigError: another process holds the lease.
        EnvironmentFailure: at the end, and if nothing else went wrong: the lease was lost.
    """
    lease = _Lease(store, name, LEASE_SECONDS if seconds is None else seconds)
    lease.acquire(doing, option)
    stop = threading.Event()
    thread = threading.Thread(target=lease.keep, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        lease.release()
    if lease.lost:
        raise EnvironmentFailure(
            f"{store.join(name)}: another process took over while this one was out of reach",
            hint="let only one process write here; run the same command again to check the result",
        )


class _Lease:
    """State of a lease that this process wants or has."""

    def __init__(self, store: RemoteStore, name: str, seconds: float) -> None:
        self.lost = False
        self._store, self._name, self._seconds = store, name, seconds
        self._id, self._count = uuid.uuid4().hex, 0

    def acquire(self, doing: str, option: str) -> None:
        """Get it, or raise that somebody else has it."""
        while True:
            found = self._read()
            if found is None:
                self._store.create(self._name, self._record())
            elif _parsed(found).get("id") != self._id:
                self._expect_dead(found, doing, option)
                if self._read() != found:
                    continue
                self._store.write(self._name, self._record())
                time.sleep(self._seconds / 60)  # whoever found it dead too has written by then
            if self._is_ours():
                return

    def keep(self, stop: threading.Event) -> None:
        """Change it again and again until told to stop; never raises what a network does."""
        while not self.lost and not stop.wait(self._seconds / 4):
            with contextlib.suppress(JatsrError):  # out of reach; the next round will tell
                self.lost = not self._is_ours()
                if not self.lost:
                    self._count += 1
                    self._store.write(self._name, self._record())

    def release(self) -> None:
        """Remove it if it is still ours; one that cannot be removed dies by itself."""
        with contextlib.suppress(JatsrError):
            self.lost = self.lost or not self._is_ours()
            if not self.lost:
                self._store.remove([self._name])

    def _expect_dead(self, found: bytes, doing: str, option: str) -> None:
        """Return when nobody holds it any more.

        Raises:
            ConfigError: it is alive.
        """
        holder = _parsed(found)
        if _process_is_gone(holder):
            return
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            time.sleep(self._seconds / 20)
            now = self._read()
            if now is None:
                return
            if now != found:
                raise ConfigError(
                    f"another process ({holder.get('host', 'unknown host')}, pid "
                    f"{holder.get('pid', 'unknown')}) is {doing} {self._store.url}",
                    hint=f"wait for it or choose another {option}",
                )

    def _read(self) -> bytes | None:
        try:
            return self._store.read(self._name)
        except FileNotFoundError:
            return None

    def _is_ours(self) -> bool:
        found = self._read()
        return found is not None and _parsed(found).get("id") == self._id

    def _record(self) -> bytes:
        return canonical_json({**_this_process(), "id": self._id, "count": self._count})


def _parsed(record: bytes) -> dict[str, Any]:
    """Empty for what no version of jatsr has written."""
    try:
        value = json.loads(record)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _this_process() -> dict[str, Any]:
    """Where a process id means what it means: host, start of the machine, namespace."""
    space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return {"host": socket.gethostname(), "pids": space, "pid": os.getpid()}


def _process_is_gone(holder: dict[str, Any]) -> bool:
    here = _this_process()
    pid = holder.get("pid")
    if not isinstance(pid, int) or any(holder.get(k) != here[k] for k in ("host", "pids")):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
