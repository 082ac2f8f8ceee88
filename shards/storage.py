"""Where files are kept: the one seam between jatsr and folders, buckets and web servers."""

from __future__ import annotations

import os
import re
from importlib import util
from pathlib import Path
from urllib.parse import unquote

from shards.errors import ConfigError, MissingExtraError
from shards.local import LocalStore
from shards.schemes import SCHEMES
from shards.store import FileStat, Store

__all__ = ["FileStat", "LocalStore", "Store", "StoreLike", "is_url", "open_store"]

StoreLike = Store | str | os.PathLike[str]
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def is_url(text: str) -> bool:
    """Whether a text is ``scheme://...`` and not a path; ``open_store`` takes either."""
    return _URL.fullmatch(text) is not None


def open_store(where: StoreLike) -> Store:
    """The store at a path or URL; a store is returned as it is. Nothing is looked up yet.

    Raises:
        MissingExtraError: the library for this kind of URL is not installed.
        ConfigError: no such kind of URL, or a URL that names no place.
    """
    if isinstance(where, Store):
        return where
    text = os.fspath(where)
    url = _URL.fullmatch(text)
    if url is None:
        return LocalStore(Path(os.path.abspath(os.path.expanduser(text))))
    kind, rest = url[1].lower(), url[2]
    if kind == "file":
        return _local(unquote(rest.removeprefix("localhost")))
    return _remote(kind, rest.rstrip("/"))


def _local(path: str) -> LocalStore:
    if not path.startswith("/"):
        raise ConfigError(f"file://{path}: expected an absolute path", hint="file:///home/me/music")
    return LocalStore(Path(os.path.abspath(path)))


def _remote(kind: str, rest: str) -> Store:
    scheme = SCHEMES.get(kind)
    if scheme is None:
        raise ConfigError(
            f"{kind}:// is not supported",
            hint="use a folder, file://, s3:// or gs://; https:// for reading only",
        )
    if scheme.package and util.find_spec(scheme.package) is None:
        raise MissingExtraError(
            f"{kind}:// needs the package {scheme.package}",
            hint=f"pip install 'jatsr[{scheme.extra}]'",
        )
    place = rest.partition("/")[0]
    if not place and scheme.needs_place:
        raise ConfigError(f"{kind}://: expected the name of a bucket or server after it")
    if "@" in place and not scheme.read_only:
        raise ConfigError(
            f"{kind}://: an address does not hold credentials", hint=scheme.credentials_hint
        )
    from shards.remote import RemoteStore
    from shards.web import WebStore

    return (WebStore if scheme.read_only else RemoteStore)(f"{kind}://{rest}")
