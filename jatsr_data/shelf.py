"""The open blocks of a process: found on disk or fetched, verified, a bounded number at a time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Final

from jatsr_data.block_files import InCache, InShard, OpenFiles, closed
from jatsr_data.blocks import Block, OpenBlock, Read, verify_block
from jatsr_data.cache import Cache
from shards.errors import ConfigError
from shards.storage import Store

_OPEN_FILES: Final = 64
_PATIENCE: Final = 1.0  # seconds
_MEMORY: Final = 1 << 30  # bytes of blocks that a process holds


class Shelf:
    """Open blocks of a dataset.

    It can be pickled, and used in a process that was forked: each process opens its own files and
    starts its own threads, when it needs them.

    Args:
        store: the dataset.
        streams: ``hr``, ``lr0``, ...: those that will be read.
        cache: where blocks of a remote dataset are kept; a local one is read where it is.
        capacity: blocks that are kept open, besides those that are being opened. They are held in
            memory if so many of them fit into a gigabyte.
        verify: compare the hashes of all samples of a block when it is opened.
        fetchers: blocks that are opened at a time.

    Raises:
        ConfigError: a remote dataset without a cache.
    """

    def __init__(
        self,
        store: Store,
        streams: tuple[str, ...],
        cache: Cache | None,
        *,
        capacity: int,
        verify: bool = True,
        fetchers: int = 8,
    ) -> None:
        if not store.is_local and cache is None:
            raise ConfigError(
                f"{store.url}: reading a remote dataset takes a cache", hint="set cache_dir"
            )
        self._store, self._streams, self._cache = store, streams, cache
        self._capacity, self._verify, self._fetchers = capacity, verify, fetchers
        self._of_process: dict[int, _Opened] = {}

    def __reduce__(self) -> tuple[object, ...]:
        make = partial(Shelf, capacity=self._capacity, verify=self._verify, fetchers=self._fetchers)
        return make, (self._store, self._streams, self._cache)

    def want(self, blocks: Iterable[Block]) -> None:
        """Begin to open blocks, in this order; returns at once."""
        self._here().want(blocks)

    def get(self, block: Block) -> OpenBlock:
        """A block, which is opened by this thread if no other has begun to.

        Raises:
            FormatError: the block is not what was expected; or what else opening it raised. The
                next call tries again.
        """
        return self._here().get(block)

    def close(self) -> None:
        """Close all files and end all threads; waits for what is being fetched."""
        self._here().close()

    def _here(self) -> _Opened:
        """What belongs to this process; what a parent had when it forked is left alone."""
        pid = os.getpid()
        if (here := self._of_process.get(pid)) is not None:
            return here
        files = OpenFiles(_OPEN_FILES)
        opened = _Opened(partial(self._open, files), files, self._capacity, self._fetchers)
        return self._of_process.setdefault(pid, opened)

    def _open(self, files: OpenFiles, block: Block) -> OpenBlock:
        where = self._store.join(block.shard)
        if self._store.is_local:
            file: InShard | InCache = InShard(files, block, where)
        else:
            assert self._cache is not None  # __init__ has seen to it
            file = InCache(files, block, self._store, self._cache, self._verify)
        read: Read = file.read
        held = self._capacity * block.bytes <= _MEMORY
        if held:
            read = _held(read, block.bytes)
        if self._verify and self._store.is_local:  # what is in the cache has been verified
            verify_block(block, read, where)
        return OpenBlock(block, self._streams, read, where, held=held)


def _held(read: Read, size: int) -> Read:
    """The same from memory: what is verified is what is read later."""
    data = memoryview(read(0, size))
    return lambda position, size: data[position : position + size]


class _Opened:
    """The blocks that one process has open, opens or wants to.

    A thread that has nothing to open for a while ends; a later ``want`` starts another.
    """

    def __init__(
        self,
        open_block: Callable[[Block], OpenBlock],
        files: OpenFiles,
        capacity: int,
        fetchers: int,
    ) -> None:
        self._open_block, self._files = open_block, files
        self._capacity, self._fetchers = capacity, fetchers
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._idle = 0  # threads that wait for something to open
        self._futures: OrderedDict[Block, Future[OpenBlock]] = OrderedDict()
        self._waiting: OrderedDict[Block, Future[OpenBlock]] = OrderedDict()
        self._threads = set[threading.Thread]()
        self._closed = False

    def want(self, blocks: Iterable[Block]) -> None:
        with self._lock:
            for block in blocks:
                self._future(block)
            self._changed.notify(len(self._waiting))
            for _ in range(
                min(len(self._waiting) - self._idle, self._fetchers - len(self._threads))
            ):
                # A daemon: the end of the process does not wait for a server.
                thread = threading.Thread(target=self._work, daemon=True)
                thread.start()
                self._threads.add(thread)

    def get(self, block: Block) -> OpenBlock:
        with self._lock:
            future = self._future(block)
            ours = self._waiting.pop(block, None) is not None
        if ours:
            self._run(block, future)
        try:
            return future.result()
        except BaseException:
            with self._lock:
                if future.done() and self._futures.get(block) is future:
                    del self._futures[block]
            raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for future in self._waiting.values():
                future.set_exception(closed())
            self._waiting.clear()
            self._changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        self._futures.clear()
        self._files.close()

    def _future(self, block: Block) -> Future[OpenBlock]:
        if self._closed:
            raise closed()
        future = self._futures.get(block)
        if future is None:
            future = self._futures[block] = self._waiting[block] = Future()
            ready = (key for key, other in self._futures.items() if other.done())
            for old in list(islice(ready, max(len(self._futures) - self._capacity, 0))):
                del self._futures[old]
        self._futures.move_to_end(block)
        return future

    def _work(self) -> None:
        while found := self._next():
            self._run(*found)

    def _next(self) -> tuple[Block, Future[OpenBlock]] | None:
        """What is to be opened next; None after a while without anything."""
        with self._lock:
            if not self._waiting and not self._closed:
                self._idle += 1
                self._changed.wait(_PATIENCE)
                self._idle -= 1
            if self._waiting:
                return self._waiting.popitem(last=False)
            self._threads.discard(threading.current_thread())
            return None

    def _run(self, block: Block, future: Future[OpenBlock]) -> None:
        try:
            opened = self._open_block(block)
        except BaseException as error:  # noqa: BLE001  raised by get()
            future.set_exception(error)
        else:
            future.set_result(opened)
