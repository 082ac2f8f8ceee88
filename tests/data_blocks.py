"""Blocks of datasets, a remote store without a network, and children of this process."""

from __future__ import annotations

import hashlib
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from jatsr_data.blocks import Block
from shards.layout import SAMPLES
from shards.local import LocalStore
from shards.manifest import read_manifest
from shards.tables import SAMPLES_SCHEMA, read_table


def blocks_in(dataset: Path, samples: int = 2) -> list[Block]:
    """All samples of a dataset in blocks of a few."""
    entries = {entry.name: entry for entry in read_manifest(dataset).shards}
    found = []
    rows = read_table(LocalStore(dataset), SAMPLES, SAMPLES_SCHEMA)
    for shard, group in groupby(rows, lambda row: row["shard"]):
        data, own = (dataset / shard).read_bytes(), list(group)
        for first in range(0, len(own), samples):
            part = own[first : first + samples]
            runs = [data[row["offset"] :][: row["bytes"]] for row in part]
            found.append(
                Block(
                    shard,
                    entries[shard].sha256,
                    entries[shard].bytes,
                    part[0]["offset"],
                    tuple(row["key"] for row in part),
                    tuple(map(len, runs)),
                    tuple(hashlib.sha256(run).digest()[:16] for run in runs),
                )
            )
    return found


@dataclass(frozen=True)
class RemoteFolder(LocalStore):
    """A folder that looks like a bucket; ``reads`` are (file, offset, length)."""

    reads: list[tuple[str, int, int | None]] = field(default_factory=list, compare=False)

    @property
    def is_local(self) -> bool:
        return False

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self.reads.append((name, offset, length))
        return super().read(name, offset, length)


@dataclass(frozen=True)
class HeldFolder(RemoteFolder):
    """A bucket that answers when it is told to."""

    reached: threading.Event = field(default_factory=threading.Event, compare=False)
    release: threading.Event = field(default_factory=threading.Event, compare=False)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self.reached.set()
        assert self.release.wait(60)
        return super().read(name, offset, length)


def forked(work: Callable[[], object]) -> int:
    """A child that does something and exits with 0 if it went well; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  told by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(pid: int) -> int:
    """Wait for a child; negative: the signal that it died of."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
