"""Stores in forked, spawned and killed processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from shards.storage import open_store

FORKING = """
import os, sys
from shards.storage import open_store

store = open_store(sys.argv[1])
data = {name: store.read(name) for name in store.files()}  # the parent has connections open
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for _ in range(2):
                assert dict(store.read_many(sorted(data))) == data
                store.write(f"child{child}", bytes([child]))
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
for _ in range(2):
    assert dict(store.read_many(sorted(data))) == data  # at the same time
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
assert codes == [0] * 3, codes
assert [store.read(f"child{child}") for child in range(3)] == [bytes([c]) for c in range(3)]
"""

UPLOADING = """
import sys
from pathlib import Path
from shards import objects
from shards.storage import open_store

objects.CHUNK = 5 << 20
open_store(sys.argv[1]).put(Path(sys.argv[2]), "shard.tar")
"""


def test_forked_processes_share_no_connection(bucket):
    store = open_store(bucket)
    for number in range(6):
        store.write(f"n{number}", os.urandom(100_000))
    done = subprocess.run(
        [sys.executable, "-c", FORKING, bucket], capture_output=True, timeout=120, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_killed_upload_leaves_nothing_and_can_be_repeated(bucket, object_storage, tmp_path):
    path, store = tmp_path / "x", open_store(bucket)
    path.write_bytes(os.urandom(16 << 20))
    held = object_storage.proxy.fail("hold", method="PUT", containing="partNumber=3")
    command = [sys.executable, "-c", UPLOADING, bucket, str(path)]
    child = subprocess.Popen(command)
    assert held.reached.wait(60)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    held.release.set()
    assert store.stat("shard.tar") is None
    assert store.files() == {}
    subprocess.run(command, check=True, timeout=60)
    assert store.sha256("shard.tar") == open_store(tmp_path).sha256("x")


def test_an_upload_that_fails_is_aborted(bucket, object_storage, tmp_path, monkeypatch):
    import pytest

    from shards import objects
    from shards.errors import ConfigError

    monkeypatch.setattr(objects, "CHUNK", 5 << 20)
    path, proxy = tmp_path / "x", object_storage.proxy
    path.write_bytes(bytes(16 << 20))
    proxy.fail("status", status=403, method="PUT", containing="partNumber=3")
    proxy.requests.clear()
    with pytest.raises(ConfigError, match="access denied"):
        open_store(bucket).put(path, "shard.tar")
    assert "DELETE" in [r.method for r in proxy.requests if "uploadId" in r.path]
    assert open_store(bucket).files() == {}
