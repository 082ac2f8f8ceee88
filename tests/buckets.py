"""An object storage on this machine, and a proxy in front of it that breaks things on demand."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest

from shards.schemes import forget_clients

Kind = Literal["status", "reset", "lost", "cut", "short", "shrunk", "slow", "hold"]
SECRET = "wJalrXUtnFEMI-very-secret"  # what no message may hold
_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
_CODES = {500: "InternalError", 503: "SlowDown", 403: "AccessDenied", 429: "TooManyRequests"}


@dataclass
class Fault:
    """What goes wrong, and with which requests.

    Kinds: ``status`` answers with an error instead of passing the request on; ``reset`` drops the
    connection before; ``lost`` after the storage has done what it was asked for; ``cut`` resets it
    in the middle of the body, ``short`` closes it there, ``shrunk`` also claims that this was all;
    ``slow`` sends the body in pieces; ``hold`` waits until ``release`` is set.
    """

    kind: Kind
    method: str = ""
    containing: str = ""  # in the path and query
    skip: int = 0  # this many matching requests pass first
    times: int = 1
    every: int = 1  # then each so-many-th is hit
    status: int = 503
    seen: int = 0
    hits: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def hit_by(self, method: str, path: str) -> bool:
        if self.hits >= self.times or (self.method and self.method != method):
            return False
        if self.containing not in path:
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.seen - self.skip) % self.every:
            return False
        self.hits += 1
        self.reached.set()
        return True


@dataclass(frozen=True)
class Request:
    """One that the proxy has seen."""

    method: str
    path: str  # with the query
    range: str


class Proxy:
    """Between a client and a server; ``requests`` are those seen since the last ``reset``."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.ranges = True  # False: a server that does not know ranges
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def fail(self, kind: Kind, **where: Any) -> Fault:
        """Break the requests that a ``Fault`` describes; returns it, to look at its ``hits``."""
        fault = Fault(kind, **where)
        self.faults.append(fault)
        return fault

    def reset(self) -> None:
        for fault in self.faults:
            fault.release.set()
        self.faults, self.requests, self.ranges = [], [], True

    def close(self) -> None:
        self.reset()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def note(self, request: Request) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            return next((f for f in self.faults if f.hit_by(request.method, request.path)), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for an acknowledgement
    proxy: Proxy

    def log_message(self, *_: Any) -> None:
        pass

    def handle_any(self) -> None:
        body = self._body()
        request = Request(self.command, self.path, self.headers.get("Range", ""))
        fault = self.proxy.note(request)
        kind = fault.kind if fault else ""
        if kind == "hold":
            assert fault is not None
            fault.release.wait(60)
        if kind == "status":
            assert fault is not None
            self._refuse(fault.status)
        elif kind == "reset":
            self._drop()
        else:
            self._answer(kind, *self._forward(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.proxy.upstream, timeout=60)
        try:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("expect", "transfer-encoding", "connection")
            }
            headers["Content-Length"] = str(len(body))
            if not self.proxy.ranges:
                headers.pop("Range", None)
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _answer(self, kind: str, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        if kind == "lost":
            self._drop()
            return
        sent = data[: len(data) // 2] if kind in ("cut", "short", "shrunk") else data
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = len(sent) if kind == "shrunk" else len(data)
        if self.command == "HEAD":
            length = int(dict(headers).get("Content-Length", 0))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        step = max(len(sent) // 8, 1) if kind == "slow" else max(len(sent), 1)
        for start in range(0, len(sent), step):
            self.wfile.write(sent[start : start + step])
            self.wfile.flush()
            if kind == "slow":
                threading.Event().wait(0.02)
        if kind == "cut":
            self._drop()
        elif kind == "short":
            self.close_connection = True

    def _refuse(self, status: int) -> None:
        body = _ERROR.format(code=_CODES.get(status, "Error")).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _drop(self) -> None:
        """Reset the connection, as a crashed server does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


@dataclass(frozen=True)
class ObjectStorage:
    """S3 for tests: what is set in the environment leads to the proxy."""

    proxy: Proxy
    environment: dict[str, str]

    def make_bucket(self, name: str = "") -> str:
        """Make a bucket; returns its URL."""
        bucket = name or f"bucket-{uuid.uuid4().hex[:12]}"
        connection = http.client.HTTPConnection(*self.proxy.upstream, timeout=60)
        connection.request("PUT", f"/{bucket}", headers={"Host": "s3.amazonaws.com"})
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status == 200, response.status
        return f"s3://{bucket}"


@contextlib.contextmanager
def run_object_storage() -> Iterator[ObjectStorage]:
    """A moto server in a thread, a proxy in front of it, and the environment that leads there."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    proxy = Proxy((host, port))
    environment = {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
                patch.delenv(name, raising=False)
            _forget_clients()
            yield ObjectStorage(proxy, environment)
    finally:
        _forget_clients()
        proxy.close()
        server.stop()


def _forget_clients() -> None:
    """File systems remember the environment in which they were made."""
    forget_clients()


@pytest.fixture(scope="session")
def object_storage() -> Iterator[ObjectStorage]:
    """One server for all tests."""
    with run_object_storage() as storage:
        yield storage


@pytest.fixture
def bucket(object_storage: ObjectStorage) -> Iterator[str]:
    """URL of an empty bucket; faults end with the test."""
    object_storage.proxy.reset()
    yield object_storage.make_bucket()
    object_storage.proxy.reset()
