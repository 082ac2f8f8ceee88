"""Every store keeps the same contract: a folder, a bucket, memory."""

from __future__ import annotations

import os
import pickle
import uuid
from pathlib import Path

import pytest

from shards import objects
from shards.errors import ConfigError
from shards.remote import RemoteStore
from shards.storage import LocalStore, Store, open_store


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, two levels deep."""
    if request.param == "local":
        return open_store(tmp_path / "a" / "b")
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}/b")
    return open_store(request.getfixturevalue("bucket")).child("a/b")


NAMES = ["x", "a/b", "a-b/c", "a/c/d", "[1] *?#%20 ä.bin", "z.txt"]


def fill(store: Store, names: list[str] = NAMES) -> dict[str, bytes]:
    contents = {name: f"content of {name}".encode() for name in names}
    for name, data in contents.items():
        store.write(name, data)
    return contents


def test_what_is_written_can_be_read_listed_and_described(store):
    contents = fill(store)
    assert {name: store.read(name) for name in contents} == contents
    files = store.files()
    assert list(files) == sorted(contents)
    for name, stat in files.items():
        assert stat == store.stat(name)
        assert stat.size == len(contents[name])
        assert stat.mtime_ns > 1_700_000_000 * 10**9
    assert list(store.files("a")) == list(store.files("a/")) == ["a/b", "a/c/d"]
    assert store.entries() == sorted({name.split("/")[0] for name in NAMES})
    assert store.child("a").entries() == ["b", "c"]
    assert store.child("a").read("c/d") == contents["a/c/d"]
    assert store.child("a").child("b").read("") == contents["a/b"]
    assert store.child("a/b").stat("") == store.stat("a/b")
    assert store.join("a/b") == store.child("a").join("b") == f"{store.url}/a/b"


def test_reads_are_slices(store):
    data = bytes(range(100))
    store.write("x", data)
    for offset, length in [(0, 100), (0, 1), (7, 9), (90, 20), (100, 5), (300, 5), (50, 0)]:
        assert store.read("x", offset, length) == data[offset : offset + length]
    for offset in (0, 3, 100, 200):
        assert store.read("x", offset) == data[offset:]
    store.write("empty", b"")
    assert store.read("empty") == store.read("empty", 0, 10) == b""
    assert store.stat("empty").size == 0


def test_writing_again_replaces_and_changes_the_stat(store):
    store.write("x", b"old and long")
    before = store.stat("x")
    store.write("x", b"new", durable=False)
    assert store.read("x") == b"new"
    assert store.stat("x") != before


def test_what_is_missing(store, tmp_path):
    fill(store, ["a/b"])
    for name in ("x", "a/x", "nothing/at/all", "a"):
        assert store.stat(name) is None
    for read in (store.read, store.sha256):
        with pytest.raises(FileNotFoundError) as caught:
            read("a/x")
        assert store.join("a/x") in str(caught.value)
    with pytest.raises(FileNotFoundError):
        store.download("x", tmp_path / "x")
    with pytest.raises(FileNotFoundError), store.local("x"):
        pass
    with pytest.raises(FileNotFoundError):
        store.move({"x": "y"})
    assert store.files("x") == store.child("x").files() == {}
    assert store.child("x").entries() == []
    store.remove(["x", "a/x"])
    store.remove_tree("x")
    assert list(store.files()) == ["a/b"]


def test_neighbours_with_the_same_beginning_are_left_alone(store):
    fill(store, ["train/1", "training/1", "train.txt", "train-old/1"])
    assert list(store.files("train")) == ["train/1"]
    assert store.child("train").entries() == ["1"]
    store.remove_tree("train")
    assert list(store.files()) == ["train-old/1", "train.txt", "training/1"]


def test_reading_many_keeps_the_order_and_tells_what_is_missing(store):
    contents = fill(store, [f"n/{i:03d}" for i in range(50)])
    names = [*reversed(contents), "n/missing", "n/005"]
    found = list(store.read_many(names))
    assert found == [(name, contents.get(name)) for name in names]
    some = store.read_many(names)
    assert next(some)[0] == names[0]
    some.close()


def test_moving_can_be_repeated_and_replaces(store):
    fill(store, ["p/1", "p/2", "q/2"])
    pairs = {"p/1": "q/1", "p/2": "q/2"}
    store.move(pairs)
    store.move(pairs)
    assert list(store.files()) == ["q/1", "q/2"]
    assert store.read("q/2") == b"content of p/2"
    store.write("p/1", b"copied, not yet removed")
    store.move(pairs)
    assert store.read("q/1") == b"copied, not yet removed"
    assert "p/1" not in store.files()


def test_removing(store):
    fill(store)
    store.remove(["x", NAMES[4]])
    store.remove_tree("a")
    assert list(store.files()) == ["a-b/c", "z.txt"]
    store.remove_tree("z.txt")
    store.remove_tree("")
    assert store.files() == {}
    assert store.entries() == []
    fill(store, ["again"])
    assert store.entries() == ["again"]


@pytest.mark.parametrize("size", [0, 1000, objects.CHUNK + 1, 2 * objects.CHUNK + 5])
def test_files_go_in_and_come_out(store, tmp_path, size):
    path = tmp_path / "in"
    path.write_bytes(os.urandom(size))
    store.put(path, "deep/down.bin")
    assert store.stat("deep/down.bin").size == size
    store.download("deep/down.bin", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert store.sha256("deep/down.bin") == LocalStore(tmp_path).sha256("in")
    with store.local("deep/down.bin") as local:
        assert local.name == "down.bin"
        assert local.read_bytes() == path.read_bytes()
    assert local.exists() == store.is_local


def test_trees_go_in_and_come_out_and_replace_what_was_there(store, tmp_path):
    first, second = LocalStore(tmp_path / "first"), LocalStore(tmp_path / "second")
    fill(first)
    fill(second, ["a/b", "new"])
    store.write("beside", b"")
    store.put_tree(first.path, "some/tree")
    assert store.sha256("some/tree") == first.sha256("")
    store.put_tree(second.path, "some/tree")
    assert [*store.files()] == ["beside", "some/tree/a/b", "some/tree/new"]
    assert store.sha256("some/tree") == second.sha256("") == store.child("some/tree").sha256("")
    with store.local("some/tree") as local:
        assert local.name == "tree"
        assert LocalStore(local).sha256("") == second.sha256("")
    assert list(second.files()) == ["a/b", "new"]
    assert local.exists() == store.is_local
    assert store.child("some").entries() == ["tree"]


def test_stores_are_values_that_travel(store):
    fill(store, ["x"])
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert hash(copy) == hash(store)
    assert copy.read("x") == b"content of x"
    assert open_store(store) is store
    assert open_store(store.url) == store
    assert store.child("x") != store


def test_the_lock_is_held_and_given_back(store, monkeypatch):
    monkeypatch.setattr("shards.lease.LEASE_SECONDS", 0.4)
    with (
        store.lock(".jatsr/lock"),
        pytest.raises(ConfigError, match=r"another process .*building in .*") as caught,
        store.lock(".jatsr/lock"),
    ):
        pass
    assert store.url in caught.value.message
    with store.lock(".jatsr/lock"):
        store.write("x", b"")


def test_a_crash_between_the_renames_of_a_tree_is_mended(tmp_path):
    store, tree = LocalStore(tmp_path / "out"), LocalStore(tmp_path / "tree")
    fill(tree, ["a"])
    fill(store, [".stats.zarr.old/x", ".stats.zarr.new/half", "stats.zarr/old"])
    store.put_tree(tree.path, "stats.zarr")
    assert list(store.files()) == ["stats.zarr/a"]


def test_names_that_lead_out_of_a_tree_are_not_followed(tmp_path):
    from shards.errors import FormatError

    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.write("tree/../../../evil", b"")
    with pytest.raises(FormatError, match="evil"), store.local("tree"):
        pass


@pytest.fixture
def outside(bucket, object_storage):
    """Writes objects without the store's knowledge."""
    import http.client

    def put(key: str) -> None:
        connection = http.client.HTTPConnection(*object_storage.proxy.upstream)
        connection.request("PUT", f"/{bucket.removeprefix('s3://')}/{key}", b"x")
        assert connection.getresponse().status == 200
        connection.close()

    return put


def test_listings_are_fresh(bucket, outside):
    store = open_store(bucket)
    for number in range(3):
        outside(f"a/{number}")
        names = [str(n) for n in range(number + 1)]
        assert store.child("a").entries() == list(store.child("a").files()) == names
        assert store.child("a").stat(str(number)) is not None
        assert store.child("a").stat(str(number + 1)) is None


def test_long_listings_come_in_pages(bucket, object_storage, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    store = open_store(bucket)
    contents = fill(store, [f"a/{i:02d}" for i in range(11)])
    object_storage.proxy.fail("status", containing="continuation-token", status=500, skip=1)
    object_storage.proxy.requests.clear()
    assert list(store.files()) == list(contents)
    assert len(store.child("a").entries()) == 11
    assert len(object_storage.proxy.requests) >= 8


def test_placeholders_of_folders_are_no_files(bucket, outside):
    store = open_store(bucket).child("music")
    outside("music/")
    outside("music/album/")
    assert (store.files(), store.entries()) == ({}, ["album"])
    outside("music/album/song.flac")
    assert list(store.files()) == ["album/song.flac"]
    assert store.child("album").entries() == ["song.flac"]
    assert store.stat("album") is None
    assert store.stat("") is None


def test_a_file_that_changes_while_it_is_read_is_not_put_together(bucket, tmp_path, monkeypatch):
    from shards.errors import EnvironmentFailure

    store = open_store(bucket)
    store.write("x", b"a" * 100)
    monkeypatch.setattr(objects, "CHUNK", 60)
    read = RemoteStore.read

    def read_then_replace(self, name, offset=0, length=None):
        data = read(self, name, offset, length)
        if offset == 0:
            store.write("x", b"b" * 100)
        return data

    monkeypatch.setattr(RemoteStore, "read", read_then_replace)
    with pytest.raises(EnvironmentFailure, match="changed while it was read"):
        store.download("x", tmp_path / "x")
