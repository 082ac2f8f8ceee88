"""The bytes of blocks: in shards on this machine, or in the cache."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from jatsr_data.blocks import Block, damaged, verify_block
from jatsr_data.cache import Cache
from shards.errors import EnvironmentFailure, FormatError
from shards.objects import CHUNK
from shards.storage import Store


class _File:
    """A descriptor, closed when nobody uses it any more.

    Attributes:
        handle: the descriptor.
        version: device, inode, bytes and mtime; where these differ it is another file.
    """

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.version = _version(handle)

    def __del__(self) -> None:
        os.close(self.handle)


class OpenFiles:
    """The files that a process has open, the least recently used of which are closed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _File] | None = OrderedDict()

    def get(self, name: str, open_file: Callable[[], _File]) -> _File:
        """A file that is open, or is now."""
        with self._lock:
            if self._open is None:
                raise closed()
            if (found := self._open.get(name)) is not None:
                self._open.move_to_end(name)
                return found
        file = open_file()  # may take long, and two threads may do it
        with self._lock:
            if self._open is None:
                raise closed()
            self._open[name] = file
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
        return file

    def close(self) -> None:
        """Close them; there are no others afterwards."""
        with self._lock:
            self._open = None


class InShard:
    """The bytes of a block in a shard on this machine."""

    def __init__(self, files: OpenFiles, block: Block, path: str) -> None:
        self._files, self._block, self._path = files, block, path
        self._version = self._file().version
        if self._version[2] != block.shard_bytes:
            damaged(f"{path}: expected {block.shard_bytes} bytes, found {self._version[2]}")

    def read(self, position: int, size: int) -> bytes:
        """See ``jatsr_data.blocks.Read``."""
        file = self._file()
        if file.version != self._version:
            damaged(f"{self._path}: expected the file that was there before, found another")
        start = self._block.offset + position
        data = _read(file.handle, self._path, start, size)
        if len(data) != size:
            expected = max(self._block.shard_bytes, start + size)
            damaged(f"{self._path}: expected {expected} bytes, found only {start + len(data)}")
        return data

    def _file(self) -> _File:
        return self._files.get(self._path, self._open)

    def _open(self) -> _File:
        try:
            return _File(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            damaged(f"{self._path}: expected {self._block.shard_bytes} bytes, found no file")
        except OSError as error:
            raise _unreadable(self._path, error) from error


class InCache:
    """The bytes of a block of a remote shard: in the cache, or fetched again if they are gone."""

    def __init__(
        self, files: OpenFiles, block: Block, store: Store, cache: Cache, verify: bool
    ) -> None:
        self._files, self._block, self._store, self._cache = files, block, store, cache
        self._verify, self._where, self._bytes = verify, store.join(block.shard), block.bytes
        self._key = f"{self._where} {block.shard_sha256} {block.offset} {self._bytes}"
        self._good: tuple[int, ...] = ()  # the file that was verified; its use changes the mtime

    def read(self, position: int, size: int) -> bytes:
        """See ``jatsr_data.blocks.Read``."""
        file = self._files.get(self._key, self._open)
        data = _read(file.handle, self._where, position, size)
        if len(data) != size:
            damaged(f"{self._where}: its copy in the cache was cut short while it was read")
        return data

    def _open(self) -> _File:
        """A file that is good; a bad one is fetched anew, once."""
        file = self._cached()
        try:
            self._expect_good(file.handle)
        except FormatError:
            self._cache.drop(self._key)
            file = self._cached()
            self._expect_good(file.handle)
        return file

    def _cached(self) -> _File:
        with self._cache.open(self._key, self._bytes, self._fetch) as file:
            return _File(os.dup(file.fileno()))

    def _fetch(self, target: BinaryIO) -> None:
        """Fill a file of the cache; nobody sees it before it was verified."""
        for start in range(0, self._bytes, CHUNK):
            target.write(self._fetched(start, min(CHUNK, self._bytes - start)))
        target.flush()
        self._expect_good(target.fileno())

    def _fetched(self, position: int, size: int) -> bytes:
        block = self._block
        try:
            data = self._store.read(block.shard, block.offset + position, size)
        except FileNotFoundError:
            damaged(f"{self._where}: expected {block.shard_bytes} bytes, found no such file")
        if len(data) != size:
            end = block.offset + position + len(data)
            damaged(f"{self._where}: expected {block.shard_bytes} bytes, found only {end}")
        return data

    def _expect_good(self, handle: int) -> None:
        version = _version(handle)[:3]
        if self._verify and version != self._good:
            verify_block(self._block, partial(_read, handle, self._where), self._where)
        self._good = version


def _version(handle: int) -> tuple[int, int, int, int]:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read(handle: int, where: str, position: int, size: int) -> bytes:
    """Bytes of a file, fewer only where it ends."""
    try:
        data = os.pread(handle, size, position)
        while len(data) < size:
            more = os.pread(handle, size - len(data), position + len(data))
            if not more:
                break
            data += more
    except OSError as error:
        raise _unreadable(where, error) from error
    return data


def _unreadable(where: str, error: OSError) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"{where}: cannot be read: {error.strerror or error}",
        hint="look at the disk and at who may read the file; then start again",
    )


def closed() -> ValueError:
    """A defect of the program."""
    return ValueError("blocks are read after Shelf.close()")
