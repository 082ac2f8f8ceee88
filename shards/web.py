"""A web server as a store: files that can be read but not listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from shards import objects
from shards.errors import ConfigError
from shards.reader import RemoteReader
from shards.retry import TruncatedError
from shards.store import FileStat

_SMALL = 8 << 20  # bytes of a file that may as well come as a whole


@dataclass(frozen=True)
class WebStore(RemoteReader):
    """Files below an http(s) address; they can be read, but not written, and lists are empty.

    A server that does not know ranges sends a file as a whole, which is then held in memory.
    """

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See ``Store``; a part of a large file only from a server that knows ranges.

        Raises:
            ConfigError: it does not.
        """
        if length:
            data = self._try(name, partial(objects.sent, start=offset, end=offset + length))
            if len(data) == length:
                return data
            if len(data) > max(length, _SMALL):
                raise ConfigError(
                    f"{self.join(name)}: the server does not answer requests for parts of files, "
                    f"{len(data)} bytes came instead of {length}",
                    hint="copy the files or use a server that does",
                )
        size = self._stat(name).size
        end = size if length is None else min(size, offset + length)
        if end <= offset:
            return b""
        data = self._try(name, partial(_range, start=offset, end=end, size=size))
        return data[: end - offset]

    def _chunks(self, name: str, size: int) -> Iterator[bytes]:
        start = 0
        while start < size:
            end = min(start + objects.CHUNK, size)
            data = self._try(name, partial(_range, start=start, end=end, size=size))
            yield data
            start += len(data)

    def _fetch(self, name: str, found: FileStat, path: Path) -> None:
        # No look at the tag: servers behind one address may each have their own.
        self._save(name, found.size, path)

    def _stat(self, name: str) -> FileStat:
        return self._try(name, partial(_stat, where=self.join(name)))

    def files(self, prefix: str = "") -> dict[str, FileStat]:
        """None: web servers do not tell."""
        return {}

    def entries(self) -> list[str]:
        """None: web servers do not tell."""
        return []

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigError(
            f"{self.url}: a web server cannot be written to",
            hint="use a folder, s3:// or gs://",
        )

    write = put = put_tree = move = remove = remove_tree = lock = _refuse


def _range(files: Any, path: str, start: int, end: int, size: int) -> bytes:
    """Bytes of a file from ``start`` to ``end``, or to its end from a server without ranges."""
    data: bytes = files.cat_file(path, start=start, end=end)
    if len(data) == size:
        return data[start:]
    if len(data) != end - start:
        raise TruncatedError(f"expected {end - start} bytes, found {len(data)}")
    return data


def _stat(files: Any, path: str, where: str) -> FileStat:
    try:
        return objects.stat_of(files, path)
    except FileNotFoundError as error:  # whatever it was, this is what fsspec makes of it
        raise error.__cause__ or error from None
    except TypeError:  # the size is None
        raise ConfigError(
            f"{where}: the server does not say how long the file is",
            hint="download it and give the local file",
        ) from None
