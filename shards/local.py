"""A folder of this machine as a store."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from shards.files import (
    atomic_file,
    file_lock,
    fsync_folder,
    fsync_tree,
    machine_errors,
    sha256_file,
    sha256_tree,
    write_atomically,
)
from shards.store import FileStat, Store


@dataclass(frozen=True)
class LocalStore(Store):
    """A folder; it needs not exist before something is written."""

    path: Path

    @property
    def url(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def is_local(self) -> bool:
        """True."""
        return True

    def child(self, name: str) -> LocalStore:
        """See ``Store``."""
        return LocalStore(self.path / name)

    def join(self, name: str) -> str:
        """See ``Store``."""
        return str(self.path / name)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See ``Store``."""
        with (self.path / name).open("rb") as file:
            file.seek(offset)
            return file.read() if length is None else file.read(length)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """See ``Store``."""
        write_atomically(self.path / name, data, durable=durable)

    def put(self, path: Path, name: str) -> None:
        """See ``Store``."""
        with path.open("rb") as source, atomic_file(self.path / name) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def put_tree(self, folder: Path, name: str) -> None:
        """See ``Store``; a crash between the two renames leaves the old tree as ``.NAME.old``."""
        final = self.path / name
        fresh, old = (final.with_name(f".{final.name}.{what}") for what in ("new", "old"))
        for left_over in (fresh, old):
            shutil.rmtree(left_over, ignore_errors=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, fresh)
        fsync_tree(fresh)
        with contextlib.suppress(FileNotFoundError):
            os.replace(final, old)
        os.replace(fresh, final)
        fsync_folder(final.parent)
        shutil.rmtree(old, ignore_errors=True)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """The file or folder itself."""
        path = self.path / name
        path.stat()
        yield path

    def download(self, name: str, path: Path) -> None:
        """See ``Store``."""
        with machine_errors(f"copying {self.join(name)}"):
            shutil.copyfile(self.path / name, path)

    def stat(self, name: str) -> FileStat | None:
        """See ``Store``."""
        path = self.path / name
        return _stat(path) if path.is_file() else None

    def files(self, prefix: str = "") -> dict[str, FileStat]:
        """See ``Store``; links to files count, links to folders are not followed."""
        found: dict[str, FileStat] = {}
        for folder, _, names in os.walk(self.path / prefix, onerror=_unless_missing):
            for path in (Path(folder, name) for name in names):
                if path.is_file():
                    found[path.relative_to(self.path).as_posix()] = _stat(path)
        return dict(sorted(found.items()))

    def entries(self) -> list[str]:
        """See ``Store``."""
        try:
            return sorted(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read_many(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """See ``Store``."""
        for name in names:
            try:
                yield name, self.read(name)
            except FileNotFoundError:
                yield name, None

    def move(self, pairs: Mapping[str, str]) -> None:
        """See ``Store``; durable."""
        folders = set[Path]()
        for source, target in ((self.path / a, self.path / b) for a, b in pairs.items()):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(source, target)
            except FileNotFoundError:
                if not target.exists():
                    raise
            folders |= {source.parent, target.parent}
        for folder in sorted(folders):
            if folder.is_dir():
                fsync_folder(folder)

    def remove(self, names: Iterable[str]) -> None:
        """See ``Store``."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def remove_tree(self, name: str) -> None:
        """See ``Store``."""
        doomed = [self.path / name] if name else [self.path / entry for entry in self.entries()]
        for path in doomed:
            with contextlib.suppress(FileNotFoundError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def sha256(self, name: str) -> str:
        """See ``Store``."""
        path = self.path / name
        return sha256_tree(path) if path.is_dir() else sha256_file(path)

    def lock(
        self, name: str, *, doing: str = "building in", option: str = "DEST"
    ) -> AbstractContextManager[None]:
        """See ``Store``; the kernel drops the lock when the process dies."""
        return file_lock(self.path / name, self.path, doing=doing, name=option)


def _stat(path: Path) -> FileStat:
    found = path.stat()
    return FileStat(found.st_size, found.st_mtime_ns)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
