"""Files of remote blocks on this machine's disk, shared by all processes of a user."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from platformdirs import user_cache_path

from shards.errors import ConfigError, EnvironmentFailure

ENVIRONMENT: Final = "JATSR_CACHE"
_COUNT: Final = "bytes"  # file with the size of the cache, as its processes count it
_PART: Final = ".part"
_FOLDER = re.compile(r"[0-9a-f]{2}")
_FILE = re.compile(r"[0-9a-f]{64}(\.part)?")
_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO, errno.EMFILE, errno.ENFILE,
    errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF,  # file systems that do not know flock
}  # fmt: skip
# Descriptors with a lock. It would outlive this process in a child that was forked meanwhile.
_locked_here = set[int]()


def default_cache_root() -> Path:
    """``JATSR_CACHE``, or ``jatsr/blocks`` in the user's cache folder."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named).expanduser().absolute()
    return user_cache_path("jatsr") / "blocks"


@dataclass(frozen=True)
class Cache:
    """A folder of files of which the least recently used are removed.

    It holds no state: any number of processes and threads use the same folder, and nothing that a
    killed one leaves there hinders the others. The time of a file's last use is its mtime.

    Args:
        root: the folder, on a disk of this machine; made when it is needed.
        limit: bytes that the files in it may have in total; with many processes it may for moments
            be a sixteenth more.
    """

    root: Path
    limit: int

    def open(self, key: str, size: int, fill: Callable[[BinaryIO], None]) -> BinaryIO:
        """A file opened for reading; it stays readable when it is removed from the cache.

        Args:
            key: what is in it, in any words.
            size: its bytes.
            fill: writes them from beginning to end. Called if the file is not there, by one
                thread of one process of the machine while the others wait.

        Raises:
            ConfigError: the file alone is larger than the limit.
            EnvironmentFailure: the disk is full, or the folder cannot be written to.
            Exception: what ``fill`` raised; nothing is kept then.
        """
        if size > self.limit:
            raise ConfigError(
                f"cache_bytes={self.limit}: expected at least the {size} bytes of one block",
                hint=f"raise cache_bytes to several times {size}",
            )
        path = self._path(key)
        with self._explained():
            while True:
                file = _finished(path, size) or self._made(path, size, fill)
                if file is not None:
                    return file

    def drop(self, key: str) -> None:
        """Remove a file; one that is not there is fine."""
        with self._explained():
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        return self.root / name[:2] / name

    def _made(self, path: Path, size: int, fill: Callable[[BinaryIO], None]) -> BinaryIO | None:
        """The file after this call or somebody else has made it; None: look again."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(path.name + _PART)
        with _locked(part, os.O_RDWR | os.O_CREAT) as handle:
            if handle is None:
                return None
            try:
                if (file := _finished(path, size)) is not None:
                    return file
                self._fill(handle, part, size, fill)
                with contextlib.suppress(FileNotFoundError):  # somebody removed the whole cache
                    os.rename(part, path)
                return _finished(path, size)
            finally:
                if _is_at(handle, part):
                    part.unlink()

    def _fill(self, handle: int, part: Path, size: int, fill: Callable[[BinaryIO], None]) -> None:
        # Whoever adds up sizes sees how large it will be; what the killed have left is overwritten.
        os.ftruncate(handle, size)
        count = self._count(size)
        if count is None or count > self.limit:
            self._evict(wait=count is not None and count > self.limit + self.limit // 16)
        with open(handle, "wb", closefd=False) as file:
            fill(file)
            if file.tell() != size:
                raise ValueError(f"{part}: expected {size} bytes, {file.tell()} were written")

    def _count(self, more: int, unknown: int | None = None) -> int | None:
        """Add to the bytes that all processes together have counted.

        It may be more than there is, after errors, and is put right by the next eviction.

        Returns:
            The sum; None if there is no count and none to begin with.
        """
        with _locked(self.root / _COUNT, os.O_RDWR | os.O_CREAT) as handle:
            if handle is None:
                return None
            text = os.pread(handle, 64, 0).strip()
            count = int(text) if text.isdigit() else unknown
            if count is None:
                return None
            count = max(count + more, 0)
            os.pwrite(handle, b"%-32d" % count, 0)
            return count

    def _evict(self, *, wait: bool) -> None:
        """Remove what was not used for longest until a sixteenth is free.

        One process at a time does; the others wait only if it cannot keep up with them.
        """
        with _locked(self.root, os.O_RDONLY, wait=wait) as handle:
            if handle is None:
                return
            before = self._count(0)
            if before is not None and before <= self.limit:
                return
            files = sorted(self._files())
            total = sum(size for _, size, _ in files)
            for _, size, path in files:
                if total <= self.limit - self.limit // 16:
                    break
                if not path.endswith(_PART):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
                    total -= size
            self._count(total - (before or 0), unknown=0)  # others may have added to it

    def _files(self) -> Iterator[tuple[int, int, str]]:
        """Last use, bytes and path of all that is in the cache; sweeps up after the killed."""
        for folder in _entries(self.root, _FOLDER):
            for entry in _entries(folder.path, _FILE):
                if entry.name.endswith(_PART):
                    _sweep(Path(entry.path))
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield found.st_mtime_ns, found.st_size, entry.path

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Say that it is the cache that has no room or no permission."""
        try:
            yield
        except OSError as error:
            if error.errno not in _ERRNOS:
                raise
            raise EnvironmentFailure(
                f"{self.root}: a block cannot be kept in the cache: {os.strerror(error.errno)}",
                hint=f"free space there, lower cache_bytes (now {self.limit}), or name another "
                f"folder with cache_dir or {ENVIRONMENT}",
            ) from error


def _finished(path: Path, size: int) -> BinaryIO | None:
    """A file that is there, marked as used; one of another size was torn by a power cut."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return None
    if os.fstat(file.fileno()).st_size == size:
        with contextlib.suppress(OSError):  # a cache that is only read has no order
            os.utime(file.fileno())
        return file
    file.close()
    path.unlink(missing_ok=True)
    return None


def _entries(folder: str | Path, names: re.Pattern[str]) -> Iterator[os.DirEntry[str]]:
    """What is ours in a folder; nothing where it is gone."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (entry for entry in entries if names.fullmatch(entry.name))


def _sweep(part: Path) -> None:
    """Remove an unfinished file that nobody is writing."""
    with _locked(part, os.O_RDWR, wait=False) as handle:
        if handle is not None:
            part.unlink()


@contextlib.contextmanager
def _locked(path: Path, flags: int, *, wait: bool = True) -> Iterator[int | None]:
    """The descriptor of a file or folder that nobody else holds meanwhile.

    None: somebody holds it and we do not wait, or it is no longer the one at this path.
    """
    try:
        handle = os.open(path, flags, 0o600)
    except FileNotFoundError:
        yield None
        return
    _locked_here.add(handle)
    try:
        yield handle if _flock(handle, wait) and _is_at(handle, path) else None
    finally:
        _locked_here.discard(handle)
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing would not do if a child has it too
        os.close(handle)


def _flock(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _leave_locks_to_parent() -> None:
    for handle in _locked_here:
        os.close(handle)
    _locked_here.clear()


os.register_at_fork(after_in_child=_leave_locks_to_parent)
