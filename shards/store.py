"""What a place for files can do, whether it is a folder or a bucket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileStat:
    """A file from outside.

    Attributes:
        size: bytes.
        mtime_ns: last change in nanoseconds since 1970, as fine as the store tells it; 0: unknown.
        tag: a checksum or version that the store gives it, or empty.
    """

    size: int
    mtime_ns: int
    tag: str = ""


class Store(ABC):
    """A place for files, with names that are relative and have slashes; "" is the place itself.

    A store holds an address and nothing else: it can be pickled, hashed and used in any thread and
    in any process, however that was started. Files appear whole or not at all. A missing file is a
    ``FileNotFoundError``. Remote stores also raise ``ConfigError`` (no access, no such bucket) and
    ``EnvironmentFailure`` (out of reach after many attempts).
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Its address for messages: free of credentials; an absolute path where it is local."""

    @property
    @abstractmethod
    def is_local(self) -> bool:
        """Whether its files are files of this machine."""

    @abstractmethod
    def child(self, name: str) -> Store:
        """The store of a folder inside."""

    @abstractmethod
    def join(self, name: str) -> str:
        """The address of a file for messages."""

    @abstractmethod
    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes ``[offset, offset + length)`` of a file, fewer only where the file ends."""

    @abstractmethod
    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a whole file; ``durable`` waits until a local one would survive a power cut."""

    @abstractmethod
    def put(self, path: Path, name: str) -> None:
        """Copy a local file here."""

    @abstractmethod
    def put_tree(self, folder: Path, name: str) -> None:
        """Copy a local folder here; it replaces what was under the name."""

    @abstractmethod
    def local(self, name: str) -> AbstractContextManager[Path]:
        """A local file or folder with the content of one here, to be read inside the ``with``."""

    @abstractmethod
    def download(self, name: str, path: Path) -> None:
        """Copy a file to a local path; what an error leaves there is of no use."""

    @abstractmethod
    def stat(self, name: str) -> FileStat | None:
        """Size and age of a file; None where there is none."""

    @abstractmethod
    def files(self, prefix: str = "") -> dict[str, FileStat]:
        """All files below a folder, at any depth, sorted by name; never from a cache."""

    @abstractmethod
    def entries(self) -> list[str]:
        """Names of the files and folders directly inside, sorted; none where there is nothing."""

    @abstractmethod
    def read_many(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Whole files in the given order, None for those that are missing; few at a time."""

    @abstractmethod
    def move(self, pairs: Mapping[str, str]) -> None:
        """Rename files inside this store, replacing what has the new name.

        A move that was interrupted can be made again: pairs that are done already are fine.
        """

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are missing are fine."""

    @abstractmethod
    def remove_tree(self, name: str) -> None:
        """Remove all below a folder and the folder (not the store's own); missing is fine."""

    @abstractmethod
    def sha256(self, name: str) -> str:
        """Hexadecimal sha256 of a file, or of a folder as ``sha256_tree`` has it."""

    @abstractmethod
    def lock(
        self, name: str, *, doing: str = "building in", option: str = "DEST"
    ) -> AbstractContextManager[None]:
        """Be the only writer inside the ``with``; the lock is a file of that name.

        Args:
            name: of the lock.
            doing: what its holder does here, for messages.
            option: that names this place, for messages.

        Raises:
            ConfigError: another process holds it.
            EnvironmentFailure: at the end of the ``with``: another process took a remote lock.
        """
