"""Find every file in the sources: folders on disk and in object storage."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shards.addresses import joined, shown
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import printable
from shards.reader import RemoteReader
from shards.storage import LocalStore, Store, StoreLike, is_url, open_store


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the sources, before it is opened."""

    path: str
    folder: str  # from the name of its source on, what --split-by folder goes by
    size: int
    mtime_ns: int
    problem: str = ""  # why it cannot be opened
    is_folder: bool = False  # that could not be listed

    @property
    def name(self) -> str:
        """The path for tables and messages: valid text with nothing secret in it."""
        return printable(without_secrets(self.path))


def without_secrets(source: str) -> str:
    """A path as it is, a URL without user, password and query."""
    return shown(source) if is_url(source) else source


def find_files(sources: Sequence[str | os.PathLike[str]], excluded: StoreLike) -> list[Found]:
    """Every file under the sources in a stable order, each once.

    Folders are entered once even where symbolic links loop.

    Args:
        sources: files and folders: paths and URLs.
        excluded: a folder that is not entered (the destination).

    Raises:
        ConfigError: a source does not exist, or there is no file in any.
    """
    files: dict[str, Found] = {}
    names = [os.fspath(source) for source in sources]
    for name in names:
        for item in _find(name, open_store(excluded)):
            files.setdefault(item.path, item)
    if not files:
        shown_names = " ".join(map(without_secrets, names))
        raise ConfigError(f"SOURCE {shown_names}: expected files, found none")
    return [files[path] for path in sorted(files, key=os.fsencode)]


def _find(source: str, excluded: Store) -> Iterable[Found]:
    store = open_store(source)
    if isinstance(store, RemoteReader):
        return _listed(store, excluded)
    assert isinstance(store, LocalStore)
    root = store.path
    if not root.exists():
        raise ConfigError(f"SOURCE {source}: no such file or folder")
    skip = excluded.path.resolve() if isinstance(excluded, LocalStore) else None
    return [_stat(root, root.parent)] if root.is_file() else _walk(root, skip)


def _listed(store: RemoteReader, excluded: Store) -> Iterator[Found]:
    """Files of a folder in object storage, or the one object of that name."""
    root = PurePosixPath(store.url.partition("://")[2])
    listing = store.files()
    inside = excluded.url.rstrip("/") + "/"
    for name, item in listing.items():
        url = joined(store.address, name)
        if not url.startswith(inside):
            folder = PurePosixPath(root.name, name).parent.as_posix()
            yield Found(url, folder, item.size, item.mtime_ns)
    if not listing:
        single = store.stat("")
        if single is None:
            raise ConfigError(f"SOURCE {store.url}: no such file or folder")
        yield Found(store.address, root.parent.name, single.size, single.mtime_ns)


def expect_visible(sources: Iterable[str]) -> None:
    """Make sure that this process, perhaps on another machine, sees the local sources.

    Raises:
        EnvironmentFailure: it does not.
    """
    for source in sources:
        if not os.path.exists(source):
            raise EnvironmentFailure(
                f"{socket.gethostname()}: SOURCE {source} is not there",
                hint="every machine must see the sources under the same path: put them on a "
                "shared file system, or into a bucket and give its URL",
            )


def _walk(root: Path, skip: Path | None) -> Iterator[Found]:
    entered: set[tuple[int, int]] = set()
    unreadable: list[OSError] = []
    for folder, names, files in os.walk(root, followlinks=True, onerror=unreadable.append):
        try:
            info = os.stat(folder)
        except OSError as error:  # it vanished or was locked while we walked
            unreadable.append(error)
            continue
        identity = (info.st_dev, info.st_ino)
        if identity in entered or Path(folder).resolve() == skip:
            names.clear()
            continue
        entered.add(identity)
        names.sort(key=os.fsencode)
        for name in files:
            yield _stat(Path(folder, name), root)
    for problem in unreadable:
        reason = f"folder cannot be read: {problem.strerror}"
        yield Found(str(problem.filename), ".", 0, 0, reason, is_folder=True)


def _stat(path: Path, root: Path) -> Found:
    folder = Path(root.name, os.path.relpath(path.parent, root)).as_posix()
    try:
        info = path.stat()
    except OSError as error:
        return Found(str(path), folder, 0, 0, error.strerror or str(error))
    if not stat.S_ISREG(info.st_mode):
        return Found(str(path), folder, 0, info.st_mtime_ns, "not a regular file")
    return Found(str(path), folder, info.st_size, info.st_mtime_ns)
