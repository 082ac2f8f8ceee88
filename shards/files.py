"""Durable files: atomic writes, hashes, canonical JSON, one writer per folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from shards.errors import ConfigError, EnvironmentFailure

_STEM_BYTES = 200  # of the 255 that a file name may have
_MACHINE_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
}


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def pretty_json(value: Any) -> bytes:
    """The same for files that people read: two spaces of indent and a final newline."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def sha256_json(value: Any) -> str:
    """Hexadecimal sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def printable(path: str) -> str:
    """A path or message as valid text: bytes that are not UTF-8 become hexadecimal escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """One hash over the names and contents of all files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sha256_names({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})


def sha256_names(hashes: Mapping[str, str]) -> str:
    """The hash of a tree from those of its files: name with slashes -> hexadecimal sha256."""
    digest = hashlib.sha256()
    for name in sorted(hashes, key=lambda name: name.split("/")):
        digest.update(canonical_json([name, hashes[name]]))
    return digest.hexdigest()


def fsync_tree(folder: Path) -> None:
    """Make the files of a folder survive a power cut."""
    for path in (folder, *folder.rglob("*")):
        fsync_folder(path)


def fsync_folder(path: Path) -> None:
    """Make the renames inside a folder (or the bytes of a file) survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary_stem(name: str) -> str:
    """What temporary siblings of a file are named after: its name, shortened to leave room."""
    if len(os.fsencode(name)) <= _STEM_BYTES:
        return name
    return os.fsencode(name)[:_STEM_BYTES].decode("utf-8", "ignore")


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A file to be written that appears under its name whole, at the end, or not at all.

    Args:
        path: the final name; a temporary sibling is renamed over it.
        durable: also wait until it would survive a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{temporary_stem(path.name)}."
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        fsync_folder(path.parent)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a whole file so that no reader ever sees a part of it; see ``atomic_file``."""
    with atomic_file(path, durable=durable) as file:
        file.write(data)


def _out_of_memory() -> tuple[type[Exception], ...]:
    """Also the accelerator's, if torch is in use."""
    torch = sys.modules.get("torch")
    return (MemoryError, torch.OutOfMemoryError) if torch else (MemoryError,)


@contextlib.contextmanager
def machine_errors(action: str, *, relief: str = "") -> Iterator[None]:
    """Turn a full disk and its kin into an error that stops the run instead of blaming a track.

    Args:
        action: what was being done, for messages.
        relief: options that make do with less memory; default: those of builds.
    """
    try:
        yield
    except _out_of_memory() as error:
        raise EnvironmentFailure(
            f"out of memory while {action}",
            hint=f"use {relief or 'fewer --workers or --encode-actors'}; run the same command "
            "again to continue",
        ) from error
    except OSError as error:
        if error.errno in _MACHINE_ERRNOS:
            raise EnvironmentFailure(
                f"{os.strerror(error.errno or 0)} while {action} ({error.filename or 'no file'})",
                hint="free the resource, then run the same command again: it continues",
            ) from error
        raise


@contextlib.contextmanager
def file_lock(
    path: Path, dest: Path, *, doing: str = "building in", name: str = "DEST"
) -> Iterator[None]:
    """Hold the lock on a file; the kernel drops it when the process dies.

    Args:
        path: the file, which is created where it is missing; whoever holds it may remove it.
        dest: what it guards, for messages.
        doing: what its holder does there.
        name: of the option that names it.

    Raises:
        ConfigError: another process holds it, or the file cannot be made.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"{name} {dest}: cannot be written to: {reason}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another process is {doing} {dest}",
                    hint=f"wait for it or choose another {name}",
                ) from error
            if not _is_at(handle, path):
                continue  # its last holder has removed it: a lock that nobody else would find
            yield
            return
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False
