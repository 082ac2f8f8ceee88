"""Which files there are to be upsampled: on disk, in object storage, on web servers."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath

from jatsr_model.audio.sniff import AUDIO_SUFFIXES, SNIFF_BYTES, sniff
from shards.addresses import joined, shown
from shards.concurrent import concurrently
from shards.errors import ConfigError
from shards.files import printable
from shards.reader import RemoteReader
from shards.storage import LocalStore, Store, is_url, open_store


@dataclass(frozen=True, kw_only=True)
class Found:
    """An input.

    Attributes:
        source: a path or a URL.
        place: where it is below its folder, with slashes; with several inputs, below the folder's
            name.
        size: bytes.
        mtime_ns: when it was changed; 0 where nobody knows.
        skipped: why it is no audio; empty for what is.
        problem: why it cannot be read; empty if it can.
    """

    source: str
    place: str
    size: int = 0
    mtime_ns: int = 0
    skipped: str = ""
    problem: str = ""

    @property
    def shown(self) -> str:
        """The source for tables and messages: valid text with nothing secret in it."""
        return printable(shown(self.source) if is_url(self.source) else self.source)


def find_files(
    inputs: Sequence[str], out: Store, known: Callable[[Found], bool] = lambda found: False
) -> list[Found]:
    """All files of the inputs, each once.

    Args:
        inputs: files and folders: paths and URLs.
        out: is not searched.
        known: of an object whether it is audio that an earlier run has done, and need not be asked
            for its first bytes.

    Raises:
        ConfigError: an input is not there, cannot be listed, or is OUT.
    """
    found: dict[str, Found] = {}
    for text in inputs:
        store = open_store(text)
        if _is_same(store, out):
            raise ConfigError(
                f"OUT {out.url}: it is the input folder itself",
                hint="choose another folder; it may lie inside, and is then not searched",
            )
        for item in _find(text, store, out, several=len(inputs) > 1, known=known):
            found.setdefault(item.source, item)
    return list(found.values())


def _is_same(one: Store, other: Store) -> bool:
    if isinstance(one, LocalStore) and isinstance(other, LocalStore):
        return one.path.resolve() == other.path.resolve()
    return one == other


def _find(
    text: str, store: Store, out: Store, *, several: bool, known: Callable[[Found], bool]
) -> Iterator[Found]:
    if isinstance(store, RemoteReader):
        listed = list(_listed(store, out, several=several))
        yield from concurrently(lambda item: item if known(item) else _look_far(item), listed)
        return
    assert isinstance(store, LocalStore)
    root = store.path if is_url(text) else Path(text)
    if not root.exists():
        raise ConfigError(f"IN {text}: no such file or folder", hint="check its name")
    if root.is_file():
        yield _look(root, PurePath(root.name))
        return
    excluded = out.path.resolve() if isinstance(out, LocalStore) else None
    inside = PurePath(root.resolve().name) if several else PurePath()
    for path in _walk(root, excluded):
        yield _look(path, inside / path.relative_to(root))


def _listed(store: RemoteReader, out: Store, *, several: bool) -> Iterator[Found]:
    """Objects of a folder in object storage, or the one of that name."""
    root = PurePosixPath(store.url.partition("://")[2])
    listing, excluded = store.files(), out.url.rstrip("/") + "/"
    for name, item in listing.items():
        source = joined(store.address, name)
        if not source.startswith(excluded):
            place = f"{root.name}/{name}" if several else name
            found = Found(source=source, place=place, size=item.size, mtime_ns=item.mtime_ns)
            yield found if _is_path(name) else replace(found, problem="its name is no path")
    if not listing:
        single = store.stat("")
        if single is None:
            raise ConfigError(f"IN {store.url}: no such file or folder", hint="check its name")
        yield Found(source=store.address, place=root.name, size=single.size,
                    mtime_ns=single.mtime_ns)  # fmt: skip


def _is_path(name: str) -> bool:
    """Whether the name of an object, which can be anything, is a path below a folder."""
    return not {"", ".", ".."} & set(name.split("/"))


def _look_far(item: Found) -> Found:
    """What an object is, by its first bytes."""
    if item.problem:
        return item
    try:
        head = open_store(item.source).read("", 0, SNIFF_BYTES)
    except (OSError, ConfigError) as error:  # gone, or access to this one is denied
        reason = error.message if isinstance(error, ConfigError) else error.strerror or str(error)
        return _unreadable_file(item, reason)
    return _judged(item, head)


def _look(path: Path, place: PurePath) -> Found:
    """What a file is, by its first bytes."""
    item = Found(source=str(path), place=place.as_posix())
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            return replace(item, skipped="not a regular file")
        with path.open("rb", buffering=0) as file:
            head = file.read(SNIFF_BYTES)
    except OSError as error:
        return _unreadable_file(item, error.strerror or str(error))
    return _judged(replace(item, size=info.st_size, mtime_ns=info.st_mtime_ns), head)


def _judged(item: Found, head: bytes) -> Found:
    kind, what = sniff(head, item.place)
    return replace(item, skipped=f"not audio: {what}") if kind == "other" else item


def _unreadable_file(item: Found, reason: str) -> Found:
    if PurePath(item.place).suffix.lower() in AUDIO_SUFFIXES:
        return replace(item, problem=f"cannot be read: {reason}")
    return replace(item, skipped=f"not audio; cannot be read: {reason}")


def _walk(root: Path, excluded: Path | None) -> Iterator[Path]:
    """Files below a folder in a stable order; folders are entered once even if links loop."""
    entered: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, followlinks=True, onerror=_unreadable_folder):
        here = Path(folder)
        info = here.stat()
        if (info.st_dev, info.st_ino) in entered or here.resolve() == excluded:
            names.clear()
            continue
        entered.add((info.st_dev, info.st_ino))
        names.sort(key=os.fsencode)
        yield from (here / name for name in sorted(files, key=os.fsencode))


def _unreadable_folder(error: OSError) -> None:
    raise ConfigError(
        f"IN {error.filename}: the folder cannot be read: {error.strerror}",
        hint="give yourself access to it, or name the folders beside it",
    ) from error
