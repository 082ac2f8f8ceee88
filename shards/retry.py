"""Operations on remote stores: what is tried again, and what is said of what is not.

Libraries for storage are optional, so their errors are told by name and by the answer that they
carry. Every operation that is tried here can be made twice without harm.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from shards.addresses import cleaned
from shards.errors import ConfigError, EnvironmentFailure

T = TypeVar("T")
_ERRNOS = {
    errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EREMOTEIO, errno.EBUSY, errno.EAGAIN,
}  # fmt: skip
_CODES = {
    "BadDigest", "IncompleteBody", "NoSuchUpload", "RequestLimitExceeded", "RequestTimeout",
    "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}  # fmt: skip
_KINDS = {
    "aiohttp.client_exceptions.ClientConnectionError",
    "aiohttp.client_exceptions.ClientPayloadError",
    "botocore.exceptions.ChecksumError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.FlexibleChecksumError",
    "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.IncompleteReadError",
    "botocore.parsers.ResponseParserError",
    "gcsfs.retry.ChecksumError",
    "google.auth.exceptions.TransportError",
    "requests.exceptions.RequestException",
}
_SETTINGS = {"botocore.exceptions.BotoCoreError", "google.auth.exceptions.GoogleAuthError"}


class TruncatedError(ConnectionError):
    """A body was shorter than it had to be."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait between attempts, in seconds."""

    base: float = 0.2
    cap: float = 10.0

    def waits(self, attempts: int) -> Iterator[float]:
        """One pause less than there are attempts: doubled each time, and never twice the same."""
        for attempt in range(attempts - 1):
            yield min(self.cap, self.base * 2**attempt) * random.uniform(0.5, 1.0)


BACKOFF = Backoff()


def retried(action: Callable[[], T], where: str, attempts: int, hint: str) -> T:
    """The result of an action on a remote store, tried again after errors that pass.

    Args:
        action: what to do; can be done again after it failed in the middle.
        where: the address for messages.
        attempts: how often at most.
        hint: what to look at when access is refused.

    Raises:
        FileNotFoundError, FileExistsError, NotImplementedError: what the store said.
        ConfigError: no access, no such bucket, or settings that cannot work.
        EnvironmentFailure: it failed every time.
    """
    waits = BACKOFF.waits(attempts)
    while True:
        try:
            return action()
        except Exception as error:
            final = _final(error, where, hint)
            if final is error:
                raise
            if final is not None:
                raise final from None  # its text is in the message, free of secrets
            wait = next(waits, None)
            if wait is None:
                raise EnvironmentFailure(
                    f"{where}: failed {attempts} times, last with {_reason(error)}",
                    hint="run the same command again: it continues",
                ) from None
        time.sleep(wait)


def no_bucket(where: str, hint: str) -> ConfigError:
    """The error for a bucket that is not there."""
    return ConfigError(f"{where}: there is no such bucket", hint=f"create it, or {hint}")


def answer_of(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and error code in an error or in what caused it; (None, "") without an answer."""
    link: BaseException | None = error
    while link is not None:
        response: Any = getattr(link, "response", None)
        if isinstance(response, dict):  # botocore
            code = str(response.get("Error", {}).get("Code", ""))
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode"), code
        for name in ("status", "code"):  # aiohttp, gcsfs
            value = str(getattr(link, name, ""))
            if value.isdecimal() and 100 <= int(value) < 600:
                return int(value), ""
        link = link.__cause__
    return None, ""


def _final(error: Exception, where: str, hint: str) -> Exception | None:
    """What to raise; the error itself where it is none of ours, None where it may pass."""
    status, code = answer_of(error)
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if status == 501 or isinstance(error, NotImplementedError):
        return NotImplementedError(f"{where}: {_reason(error)}")
    passing = bool(kinds & _KINDS) or isinstance(error, ConnectionError | TimeoutError)
    if passing or code in _CODES or (status and (status in (408, 409, 425, 429) or status >= 500)):
        return None
    if code == "NoSuchBucket":
        return no_bucket(where, hint)
    if status in (404, 410) or (status is None and isinstance(error, FileNotFoundError)):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where)
    if status == 412 or isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where)
    if _is_refusal(error, status):
        return ConfigError(f"{where}: access denied ({_reason(error)})", hint=hint)
    if status is not None or kinds & _SETTINGS:
        return ConfigError(f"{where}: cannot be used ({_reason(error)})", hint=hint)
    return None if isinstance(error, OSError) and error.errno in _ERRNOS else error


def _is_refusal(error: Exception, status: int | None) -> bool:
    forbidden = isinstance(error, OSError) and str(error).startswith("Forbidden")  # gcsfs
    return status in (401, 403) or isinstance(error, PermissionError) or forbidden


def _reason(error: Exception) -> str:
    text = " ".join(cleaned(str(error)).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
