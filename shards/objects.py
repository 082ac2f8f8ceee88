"""What fsspec's file systems say of objects, in one form; each call is one attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from shards.retry import TruncatedError, answer_of
from shards.store import FileStat

CHUNK = 16 << 20  # bytes that are asked for, or sent, in one request
_TAGS = ("ETag", "md5Hash", "crc32c", "etag")
_TIMES = ("LastModified", "mtime", "Last-Modified", "created")


def read_range(files: Any, path: str, offset: int, length: int | None) -> bytes:
    """Bytes of an object; fewer than asked for only where it ends.

    Raises:
        TruncatedError: the body was cut short.
    """
    if length == 0:
        stat_of(files, path)
        return b""
    data = sent(files, path, offset, None if length is None else offset + length)
    if length is not None and len(data) != length:
        expected = min(length, max(stat_of(files, path).size - offset, 0))
        if len(data) != expected:
            raise TruncatedError(f"expected {expected} bytes, found {len(data)}")
    return data


def sent(files: Any, path: str, start: int, end: int | None) -> bytes:
    """What comes for a range: nothing where it begins behind the end."""
    try:
        data: bytes = files.cat_file(path, start=start, end=end)
    except Exception as error:
        if answer_of(error)[0] != 416:
            raise
        return b""
    return data


def stat_of(files: Any, path: str) -> FileStat:
    """Of one object.

    Raises:
        FileNotFoundError: there is none; a folder is none.
    """
    info = files.info(path)
    if info["type"] != "file":
        raise FileNotFoundError(path)
    return _stat(info)


def listed(files: Any, path: str) -> dict[str, FileStat]:
    """All objects below a folder, sorted; names are relative to it."""
    root = files._strip_protocol(path).rstrip("/") + "/"
    try:
        found = files.find(path, detail=True)
    except FileNotFoundError as error:
        if answer_of(error)[1] == "NoSuchBucket":
            raise
        return {}
    return {
        name[len(root) :]: _stat(info)
        for name, info in sorted(found.items())
        if info["type"] == "file" and name.startswith(root) and not name.endswith("/")
    }


def entries(files: Any, path: str) -> list[str]:
    """Names of objects and folders directly in a folder, sorted."""
    root = files._strip_protocol(path).rstrip("/") + "/"
    try:
        found = files.ls(path, detail=False)
    except FileNotFoundError as error:
        if answer_of(error)[1] == "NoSuchBucket":
            raise
        return []
    names = {name[len(root) :].rstrip("/") for name in found if name.startswith(root)}
    return sorted(names - {""})


def _stat(info: dict[str, Any]) -> FileStat:
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    when = next((info[name] for name in _TIMES if info.get(name)), None)
    return FileStat(int(info["size"]), _nanoseconds(when), tag.strip('"'))


def _nanoseconds(when: Any) -> int:
    """Of a moment in one of the forms in which it comes, in whole seconds.

    Some storages tell fractions in listings and not for single objects.
    """
    if isinstance(when, str):
        when = parsedate_to_datetime(when)
    if isinstance(when, datetime):
        when = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return int(when or 0) * 1_000_000_000
