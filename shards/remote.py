"""A folder of an object storage as a store, through fsspec."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards import objects
from shards.addresses import joined
from shards.concurrent import concurrently
from shards.reader import RemoteReader
from shards.retry import no_bucket


@dataclass(frozen=True)
class RemoteStore(RemoteReader):
    """A prefix of a bucket.

    Large files are uploaded in parts and appear when the last one is there. A process that is
    killed meanwhile leaves parts that no listing shows: let a lifecycle rule of the bucket remove
    incomplete multipart uploads. After an error they are removed at once.
    """

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """See ``Store``."""
        self._send(name, lambda files, path: files.pipe_file(path, data))

    def _send(self, name: str, action: Callable[[Any, str], object]) -> None:
        """Do something that writes; all that can be missing for it is the bucket."""
        try:
            self._try(name, action)
        except FileNotFoundError:
            raise no_bucket(self.join(name), self._scheme.credentials_hint) from None

    def create(self, name: str, data: bytes) -> bool:
        """Write a file if there is none; False if there is one.

        A store that does not know conditions writes in any case: read it back.
        """
        try:
            self._send(name, lambda files, path: files.pipe_file(path, data, mode="create"))
        except FileExistsError:
            return False
        except NotImplementedError:
            if self.stat(name) is not None:
                return False
            self.write(name, data)
        return True

    def put(self, path: Path, name: str) -> None:
        """See ``Store``; in parts where it is large."""
        if path.stat().st_size <= objects.CHUNK:
            self.write(name, path.read_bytes())
        else:
            self._send(
                name, lambda files, to: files.put_file(str(path), to, chunksize=objects.CHUNK)
            )

    def put_tree(self, folder: Path, name: str) -> None:
        """See ``Store``; new files first, then what is left over of the old ones goes."""
        fresh = {
            joined(name, path.relative_to(folder).as_posix()): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        for _ in concurrently(lambda item: self.put(item[1], item[0]), fresh.items()):
            pass
        self.remove(set(self.files(name)) - set(fresh))

    def move(self, pairs: Mapping[str, str]) -> None:
        """See ``Store``; copies inside the storage, then removals."""
        for _ in concurrently(lambda pair: self._copy(*pair), pairs.items()):
            pass
        self.remove(pairs)

    def _copy(self, source: str, target: str) -> None:
        try:
            self._try(source, lambda files, a: files.cp_file(a, joined(self.address, target)))
        except FileNotFoundError:
            if self.stat(target) is None:
                raise

    def remove(self, names: Iterable[str]) -> None:
        """See ``Store``."""
        for _ in concurrently(self._remove, names):
            pass

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._try(name, lambda files, path: files.rm_file(path))

    def remove_tree(self, name: str) -> None:
        """See ``Store``."""
        self.remove([name, *self.files(name)] if name else self.files())

    def lock(
        self, name: str, *, doing: str = "building in", option: str = "DEST"
    ) -> AbstractContextManager[None]:
        """See ``Store``; a lease, see ``shards.lease``."""
        from shards.lease import hold_lease

        return hold_lease(self, name, doing=doing, option=option)
