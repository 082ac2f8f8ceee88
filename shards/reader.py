"""Reading a folder of an object storage, through fsspec."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from shards import objects
from shards.addresses import joined, shown
from shards.concurrent import concurrently
from shards.errors import ChangedError, FormatError
from shards.files import machine_errors, sha256_names
from shards.retry import retried
from shards.schemes import SCHEMES, Scheme, filesystem
from shards.scratch import scratch_folder
from shards.store import FileStat, Store

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteReader(Store):
    """What buckets and web servers have in common."""

    address: str = field(repr=False)

    @property
    def url(self) -> str:
        """See ``Store``."""
        return shown(self.address)

    @property
    def is_local(self) -> bool:
        """False."""
        return False

    def child(self, name: str) -> Store:
        """See ``Store``."""
        return type(self)(joined(self.address, name))

    def join(self, name: str) -> str:
        """See ``Store``."""
        return shown(joined(self.address, name))

    def _try(self, name: str, action: Callable[[Any, str], T]) -> T:
        """Do something with a file system and the full path of a name, again if need be."""
        path = joined(self.address, name)
        return retried(
            lambda: action(filesystem(self._kind), path),
            shown(path),
            self._scheme.attempts,
            self._scheme.credentials_hint,
        )

    @property
    def _kind(self) -> str:
        return self.address.partition("://")[0]

    @property
    def _scheme(self) -> Scheme:
        return SCHEMES[self._kind]

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See ``Store``; a body that is cut short is asked for again."""
        return self._try(name, partial(objects.read_range, offset=offset, length=length))

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """See ``Store``; a copy in a scratch folder."""
        with scratch_folder() as folder:
            path = folder / (PurePosixPath(name).name[-60:] or "files")
            if found := self.stat(name):
                self._fetch(name, found, path)
            else:
                self._fetch_tree(name, path)
            yield path

    def download(self, name: str, path: Path) -> None:
        """See ``Store``; a broken connection costs a chunk, not what came before it."""
        self._fetch(name, self._stat(name), path)

    def _fetch(self, name: str, found: FileStat, path: Path) -> None:
        self._save(name, found.size, path)
        if self._stat(name) != found:
            raise self._changed(name)

    def _fetch_tree(self, name: str, folder: Path) -> None:
        tree = self._tree(name)
        targets = {inside: folder / inside.removeprefix(name).lstrip("/") for inside in tree}
        for inside, path in targets.items():
            if ".." in inside.split("/"):
                raise FormatError(f"{self.join(inside)}: expected a name without '..'")
            path.parent.mkdir(parents=True, exist_ok=True)
        for _ in concurrently(lambda n: self._save(n, tree[n].size, targets[n]), tree):
            pass
        if self.files(name) != tree:
            raise self._changed(name)

    def _save(self, name: str, size: int, path: Path) -> None:
        with machine_errors(f"downloading {self.join(name)}"), path.open("wb") as file:
            for chunk in self._chunks(name, size):
                file.write(chunk)

    def _chunks(self, name: str, size: int) -> Iterator[bytes]:
        """A file in pieces, each of them asked for by itself."""
        for start in range(0, size, objects.CHUNK):
            yield self.read(name, start, min(objects.CHUNK, size - start))

    def _changed(self, name: str) -> ChangedError:
        return ChangedError(
            f"{self.join(name)}: changed while it was read",
            hint="run the same command again when nothing writes to it",
        )

    def _tree(self, name: str) -> dict[str, FileStat]:
        """The files of a folder, of which there are some."""
        found = self.files(name)
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.join(name))
        return found

    def _stat(self, name: str) -> FileStat:
        return self._try(name, objects.stat_of)

    def stat(self, name: str) -> FileStat | None:
        """See ``Store``."""
        try:
            return self._stat(name)
        except FileNotFoundError:
            return None

    def files(self, prefix: str = "") -> dict[str, FileStat]:
        """See ``Store``."""
        found = self._try(prefix, objects.listed)
        return {joined(prefix, name): stat for name, stat in found.items()}

    def entries(self) -> list[str]:
        """See ``Store``."""
        return self._try("", objects.entries)

    def read_many(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """See ``Store``; several requests at a time."""
        return concurrently(self._read_if_there, names)

    def _read_if_there(self, name: str) -> tuple[str, bytes | None]:
        try:
            return name, self.read(name)
        except FileNotFoundError:
            return name, None

    def sha256(self, name: str) -> str:
        """See ``Store``."""
        if found := self.stat(name):
            return self._sha256_of(name, found.size)
        tree = self._tree(name)
        hashes = concurrently(lambda inside: self._sha256_of(inside, tree[inside].size), tree)
        names = (inside.removeprefix(name).lstrip("/") for inside in tree)
        return sha256_names(dict(zip(names, hashes, strict=True)))

    def _sha256_of(self, name: str, size: int) -> str:
        digest = hashlib.sha256()
        for chunk in self._chunks(name, size):
            digest.update(chunk)
        return digest.hexdigest()
