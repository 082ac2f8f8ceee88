"""One writer in a bucket, however the others behave and die."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
import uuid

import fsspec
import pytest

from shards import retry
from shards.errors import ConfigError, EnvironmentFailure
from shards.lease import hold_lease
from shards.remote import RemoteStore

NAME = ".jatsr/lock"


@pytest.fixture(params=["memory", "s3"])
def store(request):
    if request.param == "memory":
        return RemoteStore(f"memory://{uuid.uuid4().hex}")
    return RemoteStore(request.getfixturevalue("bucket"))


@pytest.fixture
def memory():
    return RemoteStore(f"memory://{uuid.uuid4().hex}")


def record(store):
    return json.loads(store.read(NAME))


def changes(store, count):
    """Wait until the lease has been refreshed so often."""
    deadline = time.monotonic() + 10
    while record(store)["count"] < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_creating_does_not_replace(store):
    assert store.create(NAME, b"one")
    assert not store.create(NAME, b"two")
    assert store.read(NAME) == b"one"


def test_a_live_lease_is_respected_and_released(store):
    with hold_lease(store, NAME, 0.4):
        first = record(store)
        with (
            pytest.raises(ConfigError, match=rf"{first['host']}, pid {first['pid']}\)"),
            hold_lease(store, NAME, 0.4),
        ):
            pass
        changes(store, 2)
        assert record(store)["id"] == first["id"]
    assert store.stat(NAME) is None


def test_a_lease_that_never_changes_is_taken_over(store):
    store.write(NAME, json.dumps({"host": "elsewhere", "pid": 1, "id": "x", "count": 7}).encode())
    begin = time.monotonic()
    with hold_lease(store, NAME, 0.4):
        assert time.monotonic() - begin >= 0.4
        assert record(store)["id"] != "x"
    assert store.stat(NAME) is None


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b"{}", b'{"pid": "x", "host": 1}'])
def test_what_nobody_wrote_is_taken_over_too(memory, content):
    memory.write(NAME, content)
    with hold_lease(memory, NAME, 0.1):
        assert "id" in record(memory)


def test_the_lease_of_a_dead_process_on_this_machine_is_taken_at_once(memory):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    with hold_lease(memory, NAME, 60):
        dead = {**record(memory), "pid": done.pid, "id": "x"}
    memory.write(NAME, json.dumps(dead).encode())
    with hold_lease(memory, NAME, 60):
        assert record(memory)["id"] != "x"
    for holder in ({**dead, "pids": "another namespace"}, {**dead, "host": "elsewhere"}):
        memory.write(NAME, json.dumps(holder).encode())
        begin = time.monotonic()
        with hold_lease(memory, NAME, 0.2):
            assert time.monotonic() - begin >= 0.2


def test_a_lease_that_is_lost_is_said_at_the_end(store):
    other = json.dumps({"host": "elsewhere", "pid": 1, "id": "x", "count": 0}).encode()
    stack = contextlib.ExitStack()
    stack.enter_context(hold_lease(store, NAME, 0.2))
    store.write(NAME, other)
    time.sleep(0.15)  # long enough for three refreshes
    assert store.read(NAME) == other
    with pytest.raises(EnvironmentFailure, match="took over"):
        stack.close()
    assert store.read(NAME) == other


def test_a_lease_that_was_removed_is_lost(memory):
    with pytest.raises(EnvironmentFailure, match="took over"), hold_lease(memory, NAME, 60):
        memory.remove([NAME])


def test_an_error_inside_is_what_comes_out(memory):
    with pytest.raises(KeyboardInterrupt), hold_lease(memory, NAME, 60):
        raise KeyboardInterrupt
    assert memory.stat(NAME) is None
    lost = contextlib.ExitStack()
    lost.enter_context(hold_lease(memory, NAME, 60))
    lost.callback(memory.write, NAME, b"{}")
    with pytest.raises(KeyError), lost:
        raise KeyError


def test_a_storage_without_conditions_serves_one_at_a_time(memory, monkeypatch):
    def unconditional(self, name, data):
        self.write(name, data)
        return True

    monkeypatch.setattr(RemoteStore, "create", unconditional)
    with (
        hold_lease(memory, NAME, 0.4),
        pytest.raises(ConfigError, match="another process"),
        hold_lease(memory, NAME, 0.4),
    ):
        pass


def test_a_storage_that_refuses_conditions(memory, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    pipe = MemoryFileSystem.pipe_file

    def refusing(self, path, value, mode="overwrite", **kwargs):
        if mode != "overwrite":
            raise NotImplementedError("a header you provided is not implemented")
        pipe(self, path, value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refusing)
    assert memory.create("x", b"1")
    assert not memory.create("x", b"2")
    assert memory.read("x") == b"1"


def test_the_lease_outlives_a_storage_that_is_away_for_a_while(bucket, object_storage, monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF", retry.Backoff(0.001, 0.01))
    config = {"config_kwargs": {"retries": {"total_max_attempts": 1}}}
    monkeypatch.setitem(fsspec.config.conf, "s3", config)
    store = RemoteStore(bucket)
    with hold_lease(store, NAME, 0.2):
        changes(store, 1)
        away = object_storage.proxy.fail("reset", method="PUT", containing=NAME, times=12)
        deadline = time.monotonic() + 20
        while away.hits < 12:  # more than one refresh tries
            assert time.monotonic() < deadline
            time.sleep(0.01)
        changes(store, 2)


def test_a_lease_whose_first_answer_is_lost_is_ours(bucket, object_storage):
    lost = object_storage.proxy.fail("lost", method="PUT", containing=NAME)
    store = RemoteStore(bucket)
    begin = time.monotonic()
    with hold_lease(store, NAME, 60):
        assert time.monotonic() - begin < 30
        assert lost.hits == 1
    assert store.stat(NAME) is None


def test_of_many_that_come_at_once_one_wins(memory):
    """Whoever ends without an error was alone."""
    alone: list[tuple[float, float]] = []
    refused: list[Exception] = []

    def work():
        try:
            with hold_lease(memory, NAME, 0.6):
                begin = time.monotonic()
                time.sleep(0.3)
                end = time.monotonic()
            alone.append((begin, end))
        except (ConfigError, EnvironmentFailure) as error:
            refused.append(error)

    memory.write(NAME, b"dead")  # found dead by all in the same moment: the hardest case
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alone) + len(refused) == 6
    for (_, end), (begin, _) in itertools.pairwise(sorted(alone)):
        assert end <= begin
    assert memory.stat(NAME) is None
