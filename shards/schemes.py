"""The kinds of remote addresses and how fsspec is asked for their file systems."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass
from typing import Any

_AWS = "check AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
_GOOGLE = "check GOOGLE_APPLICATION_CREDENTIALS"


@dataclass(frozen=True)
class Scheme:
    """A kind of address.

    Attributes:
        package: what has to be installed, or empty.
        extra: the extra of jatsr that brings it.
        credentials_hint: what to look at when access is refused.
        attempts: how often an operation is tried; less where the library itself is persistent.
        read_only: a web server: single files to be read.
        needs_place: a bucket or server has to be named.
    """

    package: str
    extra: str
    credentials_hint: str
    attempts: int = 8
    read_only: bool = False
    needs_place: bool = True


_S3 = Scheme("s3fs", "s3", _AWS)
# gcsfs tries each request six times by itself, over half a minute.
_GS = Scheme("gcsfs", "gcs", _GOOGLE, attempts=3)
_WEB = Scheme("aiohttp", "http", "check the address and who may read it", read_only=True)
_MEMORY = Scheme("", "", "", needs_place=False)  # for tests

SCHEMES = {"s3": _S3, "gs": _GS, "gcs": _GS, "http": _WEB, "https": _WEB, "memory": _MEMORY}


# Clients by process, kind and options. What a parent had is kept in its children, though they do
# not use it: freeing it would close connections, and with them the parent's ear for them, since
# parent and child share one epoll instance; the parent would then wait for an answer in vain.
_clients: dict[tuple[int, str, str], Any] = {}


def filesystem(kind: str) -> Any:
    """The file system of a kind of address, one for all threads of this process.

    A child that was forked makes its own, so that no connection is ever shared. What the user has
    set up in ``~/.config/fsspec`` is laid over the nested options.
    """
    from fsspec.config import conf

    own = conf.get(kind, {})
    options = {
        name: {**value, **own.get(name, {})} if isinstance(value, dict) else value
        for name, value in _options(kind).items()
    }
    key = os.getpid(), kind, repr(options)
    with _guard(os.getpid()):
        if key not in _clients:
            _clients[key] = _client(kind, options)
        return _clients[key]


def forget_clients() -> None:
    """Make new ones when they are needed, in what is then the environment."""
    _clients.clear()


@functools.cache
def _guard(pid: int) -> threading.Lock:
    """One for each process: a fork may find the parent's held by a thread that the child lacks."""
    del pid
    return threading.Lock()


def _client(kind: str, options: dict[str, Any]) -> Any:
    import fsspec

    client = fsspec.filesystem(kind, skip_instance_cache=True, **options)
    if kind == "s3":
        client.retries = 1  # botocore's attempts and ours are enough
        client.connect()  # else every thread that comes now would
    return client


def _options(kind: str) -> dict[str, Any]:
    if kind == "s3":
        return {
            "use_listings_cache": False,
            "default_fill_cache": False,
            "max_concurrency": 4,  # parts of one upload, each of them held in memory
            "config_kwargs": {
                # Single parts of a transfer are tried again here, whole operations by us.
                "retries": {"total_max_attempts": 3, "mode": "standard"},
                "connect_timeout": 10,
                "read_timeout": 60,
                "max_pool_connections": 32,
            },
        }
    if kind in ("http", "https"):
        from aiohttp import ClientTimeout

        return {
            "client_kwargs": {
                "headers": {"Accept-Encoding": "identity"},  # sizes are those of the files
                "timeout": ClientTimeout(total=None, sock_connect=10, sock_read=60),
                "trust_env": True,
            }
        }
    return {"use_listings_cache": False} if kind in ("gs", "gcs") else {}
