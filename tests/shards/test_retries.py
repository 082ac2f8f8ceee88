"""What a network does to requests is repaired or said, never passed on as data."""

from __future__ import annotations

import itertools
import os
import traceback

import fsspec
import pytest
from buckets import SECRET

from shards import objects, retry
from shards.errors import ConfigError, EnvironmentFailure
from shards.retry import Backoff, TruncatedError, retried
from shards.storage import LocalStore, open_store


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """No long pauses, and no attempts but ours; that the user's settings count is used here."""
    monkeypatch.setattr(retry, "BACKOFF", Backoff(0.001, 0.01))
    config = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
    monkeypatch.setitem(fsspec.config.conf, "s3", config)


@pytest.fixture
def proxy(object_storage):
    return object_storage.proxy


FAULTS = {
    "500": ("status", {"status": 500}),
    "503": ("status", {"status": 503}),
    "reset before": ("reset", {}),
    "answer lost": ("lost", {}),
    "reset in the body": ("cut", {}),
    "closed in the body": ("short", {}),
    "slow": ("slow", {}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_survives_every_fault(fault, bucket, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "CHUNK", 5 << 20)
    kind, options = FAULTS[fault]
    store, data = open_store(bucket).child("x"), os.urandom(12 << 20)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(data)

    def breaks(method="", containing="", skip=0):
        return proxy.fail(kind, method=method, containing=containing, skip=skip, **options)

    faults = [breaks("PUT", "x/small"), breaks("GET", "x/small"), breaks("DELETE", "x/small")]
    store.write("small", b"0123456789")
    assert store.read("small") == b"0123456789"
    assert store.read("small", 2, 5) == b"23456"
    store.remove(["small"])
    if kind not in ("cut", "short"):  # answers without a body stay whole
        faults += [breaks("HEAD", "big"), breaks("DELETE", "moved/big")]
    faults += [
        breaks("POST", "uploads"),
        breaks("PUT", "partNumber=2"),
        breaks("POST", "uploadId"),
        breaks("GET", "x/tree/big", skip=1),
        breaks("GET", "list-type"),
        breaks("PUT", "moved/big"),
    ]
    store.put_tree(tmp_path / "tree", "tree")
    store.download("tree/big", tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == data
    assert list(store.files()) == ["tree/big"]
    store.move({"tree/big": "moved/big"})
    assert store.sha256("moved/big") == LocalStore(tmp_path).sha256("big")
    store.remove_tree("moved")
    assert store.files() == {}
    if kind in ("status", "reset", "lost", "slow"):
        assert [f.hits for f in faults if not f.hits] == []


def test_a_broken_connection_costs_a_chunk(bucket, proxy, tmp_path, monkeypatch):
    store, data = open_store(bucket), os.urandom(10_000)
    store.write("x", data)
    monkeypatch.setattr(objects, "CHUNK", 1000)
    cut = proxy.fail("cut", method="GET", containing="/x", every=3, times=3)
    proxy.requests.clear()
    store.download("x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data
    assert cut.hits == 3
    gets = [r.range for r in proxy.requests if r.method == "GET"]
    assert len(gets) == 10 + 3
    assert len(set(gets)) == 10


@pytest.mark.parametrize("length", [None, 1000])
def test_short_bodies_are_never_returned(bucket, proxy, length):
    store = open_store(bucket)
    store.write("x", bytes(1000))
    kinds = ("cut", "short") if length is None else ("cut", "short", "shrunk")
    for kind in kinds:
        fault = proxy.fail(kind, method="GET", containing="/x", times=2)
        assert store.read("x", 0, length) == bytes(1000)
        assert fault.hits == 2


def test_giving_up_says_how_to_go_on(bucket, proxy):
    store = open_store(bucket)
    proxy.requests.clear()
    fault = proxy.fail("status", method="PUT", times=100)
    with pytest.raises(EnvironmentFailure, match="failed 8 times") as caught:
        store.write("x", b"")
    assert "run the same command again" in caught.value.hint
    assert fault.hits == len(proxy.requests) == 8
    assert caught.value.message.startswith(f"{bucket}/x: ")


def test_attempts_do_not_multiply(bucket, proxy, monkeypatch):
    monkeypatch.delitem(fsspec.config.conf, "s3")
    monkeypatch.setattr("shards.reader.SCHEMES", {"s3": replace_attempts(1)})
    fault = proxy.fail("status", method="DELETE", status=500, times=100)
    with pytest.raises(EnvironmentFailure, match="failed 1 times"):
        open_store(bucket).remove(["x"])
    assert fault.hits == 3


def replace_attempts(attempts):
    from dataclasses import replace

    from shards.schemes import SCHEMES

    return replace(SCHEMES["s3"], attempts=attempts)


def test_refusals_are_not_repeated_and_name_no_secrets(bucket, proxy):
    store = open_store(bucket)
    store.write("x", b"")
    proxy.requests.clear()
    proxy.fail("status", status=403, times=100)
    for action in (
        lambda: store.write("x", b""),
        lambda: store.read("x"),
        lambda: store.stat("x"),
        lambda: store.files(),
        lambda: store.entries(),
        lambda: store.remove(["x"]),
    ):
        proxy.requests.clear()
        with pytest.raises(ConfigError, match="access denied") as caught:
            action()
        assert len(proxy.requests) == 1
        text = "".join(traceback.format_exception(caught.value))
        assert "AWS_PROFILE" in caught.value.hint
        assert SECRET not in text
        assert "AKIA" not in text
    proxy.reset()
    with pytest.raises(ConfigError, match="no such bucket"):
        open_store("s3://there-is-none/x").read("y")


def test_a_bucket_that_writes_do_not_find_is_not_there(monkeypatch, tmp_path):
    """As gcsfs says it."""
    from fsspec.implementations.memory import MemoryFileSystem

    def missing(*_, **__):
        raise FileNotFoundError("b/nowhere/o")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", missing)
    store = open_store("memory://nowhere")
    (tmp_path / "x").write_bytes(b"")
    for action in (
        lambda: store.write("x", b""),
        lambda: store.put(tmp_path / "x", "x"),
        lambda: store.lock("x").__enter__(),
    ):
        with pytest.raises(ConfigError, match="no such bucket"):
            action()


def test_missing_credentials_are_the_users_business(tmp_path):
    """In a process of its own: file systems remember their credentials."""
    import subprocess
    import sys

    code = "from shards.storage import open_store; open_store('s3://b/x').read('y')"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environment |= {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    last = done.stderr.decode().strip().splitlines()
    assert "ConfigError: s3://b/x/y: cannot be used (NoCredentialsError" in last[-2]
    assert "AWS_ACCESS_KEY_ID" in last[-1]


def test_pauses_grow_to_a_limit_and_differ():
    waits = list(Backoff().waits(12))
    assert len(waits) == 11
    for attempt, wait in enumerate(waits):
        top = min(10.0, 0.2 * 2**attempt)
        assert top / 2 <= wait <= top
    assert list(Backoff().waits(12)) != waits
    assert list(Backoff().waits(1)) == []


def test_what_is_a_defect_is_raised_at_once_and_as_it_is():
    calls = itertools.count()

    def action():
        next(calls)
        raise KeyError("bug")

    with pytest.raises(KeyError):
        retried(action, "s3://b/x", 8, "")
    assert next(calls) == 1


class Answer(Exception):
    """As libraries raise them."""

    def __init__(self, code):
        super().__init__(f"answer {code}")
        self.code = code


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(), TimeoutError(), BrokenPipeError(), TruncatedError(), OSError(121, ""),
     Answer(429), Answer(502), Answer("503"), Answer(408)],
)  # fmt: skip
def test_what_passes_is_tried_again(error):
    outcomes = iter([error, error, None])

    def action():
        if outcome := next(outcomes):
            raise outcome
        return "done"

    assert retried(action, "s3://b/x", 3, "") == "done"


def test_secrets_in_the_texts_of_others_are_left_out():
    def action():
        raise ConnectionError("GET https://me:hunter2@host/a/b?X-Amz-Signature=hunter3 'failed'")

    with pytest.raises(EnvironmentFailure) as caught:
        retried(action, "https://host/a/b", 2, "")
    text = "".join(traceback.format_exception(caught.value))
    assert "https://host/a/b 'failed'" in caught.value.message
    assert "hunter" not in text
