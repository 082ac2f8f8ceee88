"""Which addresses there are, and that what is secret in them stays out of messages."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import pytest

from shards import objects, retry
from shards.addresses import cleaned, joined, shown
from shards.errors import ConfigError, EnvironmentFailure, MissingExtraError
from shards.retry import Backoff
from shards.storage import LocalStore, is_url, open_store


def test_paths_and_urls_are_told_apart():
    for text in ("s3://b/x", "gs://b", "https://h/x?y#z", "memory://", "FILE:///x", "foo+bar://x"):
        assert is_url(text)
    for text in ("/x", "x/y", "~/x", "c:/x", "x:y", "1s3://b", "a b://c", "", "s3:/b", "/a s3://b"):
        assert not is_url(text)


def test_local_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    expected = LocalStore(tmp_path / "a" / "b")
    spaced = LocalStore(tmp_path / "a b")
    for where in ("a/b", "./a/../a/b/", Path("a/b"), f"{tmp_path}/a/b", f"file://{tmp_path}/a/b"):
        assert open_store(where) == expected
    assert open_store("~/x").url == str(tmp_path / "home" / "x")
    assert open_store(f"file://{tmp_path}/a%20b") == open_store(f"file://{tmp_path}/a b") == spaced
    assert open_store(f"FILE://localhost{tmp_path}/a/b") == expected
    assert expected.is_local
    with pytest.raises(ConfigError, match="absolute"):
        open_store("file://a/b")


def test_remote_places():
    store = open_store("S3://Bucket/x/")
    assert (store.url, store.is_local) == ("s3://Bucket/x", False)
    assert store.child("y").url == store.join("y") == "s3://Bucket/x/y"
    assert store.join("") == store.url
    assert open_store("s3://b").join("Who? #1.flac") == "s3://b/Who? #1.flac"
    with pytest.raises(ConfigError, match="name of a bucket"):
        open_store("s3:///x")
    with pytest.raises(ConfigError, match="ftp://") as caught:
        open_store("ftp://me:hunter2@host/x")
    assert "hunter2" not in str(caught.value)
    for scheme in ("s3://", "gs://", "https://"):
        assert scheme in caught.value.hint


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("s3://b", "s3fs", "jatsr[s3]"), ("gs://b", "gcsfs", "jatsr[gcs]"),
     ("gcs://b", "gcsfs", "jatsr[gcs]"), ("https://h/x", "aiohttp", "jatsr[http]")],
)  # fmt: skip
def test_what_has_to_be_installed_is_said(monkeypatch, url, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=package) as caught:
        open_store(url)
    assert extra in caught.value.hint


def test_credentials_in_addresses_of_buckets_are_refused():
    with pytest.raises(ConfigError, match="credentials") as caught:
        open_store("s3://AKIA:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)
    assert "AKIA:" not in str(caught.value)


def test_addresses_are_joined_and_shown():
    assert joined("https://h/a?sig=1", "b.flac") == "https://h/a/b.flac?sig=1"
    assert joined("https://h/a?sig=1", "") == "https://h/a?sig=1"
    assert joined("", "x") == "x"
    assert shown("https://me:hunter2@h:1/a/b.flac?sig=1/2") == "https://h:1/a/b.flac"
    assert shown("https://h?sig=1") == "https://h"
    assert shown("s3://b/what?.flac") == "s3://b/what?.flac"
    text = "at 'http://u:p@h/x?q=1', s3://b/y and <https://v@i/z?w=2#f>: no"
    assert cleaned(text) == "at 'http://h/x', s3://b/y and <https://i/z>: no"


@pytest.fixture
def web(bucket, object_storage, monkeypatch):
    """A web server with one file, 100 kB of noise."""
    monkeypatch.setattr(retry, "BACKOFF", Backoff(0.001, 0.01))
    monkeypatch.setattr(objects, "CHUNK", 10_000)
    data = os.urandom(100_000)
    open_store(bucket).write("music/song one.flac", data)
    address = object_storage.proxy.url.replace("://", "://me:hunter2@")
    name = bucket.removeprefix("s3://")
    return f"{address}/{name}/music", data, object_storage.proxy


@pytest.mark.parametrize("ranges", [True, False])
def test_web_servers_with_and_without_ranges(web, ranges, tmp_path):
    address, data, proxy = web
    proxy.ranges = ranges
    store, name = open_store(address), "song one.flac"
    assert store.stat(name).size == len(data)
    assert store.stat(name).tag
    assert store.stat(name).mtime_ns > 10**18
    assert store.read(name) == data
    for offset, length in [(0, 10), (50_000, 10), (99_990, 100), (200_000, 1), (0, 100_000)]:
        assert store.read(name, offset, length) == data[offset : offset + length]
    proxy.requests.clear()
    store.download(name, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data
    assert sum(r.method == "GET" for r in proxy.requests) == (10 if ranges else 1)
    with open_store(f"{address}/{name}").local("") as path:
        assert path.read_bytes() == data
        assert path.name == "files"
    assert (store.stat("none"), store.files(), store.entries()) == (None, {}, [])
    with pytest.raises(FileNotFoundError):
        store.read("none")
    with pytest.raises(ConfigError, match="cannot be written"):
        store.write("x", b"")
    with pytest.raises(ConfigError, match="cannot be written"), store.lock("x"):
        pass


@pytest.mark.parametrize("kind", ["cut", "short", "shrunk", "reset", "status"])
def test_web_servers_that_fail(web, kind, tmp_path):
    address, data, proxy = web
    store, name = open_store(address), "song one.flac"
    fault = proxy.fail(kind, method="GET", skip=3, times=3)
    store.download(name, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data
    assert fault.hits == 3
    proxy.fail("status", times=1000)
    for action in (lambda: store.stat(name), lambda: store.read(name)):
        with pytest.raises(EnvironmentFailure) as caught:
            action()
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_web_servers_that_refuse_name_no_secrets(web):
    address, _, proxy = web
    proxy.fail("status", status=403, times=1000)
    for store in (open_store(address + "?sig=hunter3"), open_store(address)):
        with pytest.raises(ConfigError, match="access denied") as caught:
            store.read("song one.flac")
        assert "hunter" not in "".join(traceback.format_exception(caught.value))
        assert "hunter" not in repr(store)


def test_nobody_listens(monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF", Backoff(0.001, 0.01))
    with pytest.raises(EnvironmentFailure, match="failed 8 times"):
        open_store("http://127.0.0.1:9").stat("x")
