"""Training straight from a bucket: the same batches, every byte once, faults and kills survived."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from buckets import Fault
from reading import write_lengths

from jatsr_data import LatentDataset, LatentLoader, ReadOptions, dataset
from shards import web
from shards.errors import ConfigError
from shards.storage import open_store

LENGTHS = [300, 700, 64, 900, 512, 130, 800, 256, 600, 1000] * 8


def loader_of(url, cache, workers=0, rank=0, world_size=1):
    options = ReadOptions(lanes=4, window=2, cache_dir=cache)
    found = LatentDataset(url, crop_frames=64, seed=1, options=options)
    return LatentLoader(found, 16, rank, world_size, workers, last="pad")


def batches_of(loader):
    return [(batch.key, batch.start.tolist(), batch.hr.numpy().copy()) for batch in loader]


def expect_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one[:2] == other[:2]
        assert np.array_equal(one[2], other[2])


def shard_requests(proxy):
    """Bytes that were asked for, by request for a shard."""
    ranges = [r.range for r in proxy.requests if ".tar" in r.path and r.method == "GET"]
    ends = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in ranges]
    proxy.requests.clear()
    return [last - first + 1 for first, last in ends]


def test_training_from_a_bucket(bucket, object_storage, tmp_path, monkeypatch):
    """One test for many things, since every one of them takes an upload."""
    monkeypatch.setattr(dataset, "BLOCK_BYTES", 40_000)
    proxy, local = object_storage.proxy, tmp_path / "local"
    manifest = write_lengths(local, LENGTHS, per_shard=20)
    size = sum(entry.bytes - 1024 for entry in manifest.shards)
    url = f"{bucket}/set"
    open_store(bucket).put_tree(local, "set")
    expected = batches_of(loader_of(local, None))

    shard_requests(proxy)
    expect_equal(batches_of(loader_of(url, tmp_path / "a")), expected)
    assert sum(shard_requests(proxy)) == size  # everything once
    expect_equal(batches_of(loader_of(url, tmp_path / "a", workers=2)), expected)
    assert not shard_requests(proxy)  # nothing twice

    shares = []
    for rank in range(2):
        loader = loader_of(url, tmp_path / f"rank {rank}", rank=rank, world_size=2)
        list(loader)
        shares.append(sum(shard_requests(proxy)))
    assert max(shares) < 1.1 * size / 2

    proxy.faults = [
        Fault("status", "GET", ".tar", times=3, status=500),
        Fault("reset", "GET", ".tar", skip=2, times=2),
        Fault("cut", "GET", ".tar", skip=3, times=2),
        Fault("slow", "GET", ".tar", skip=4, times=1),
    ]
    expect_equal(batches_of(loader_of(url, tmp_path / "b", workers=2)), expected)
    assert all(fault.hits for fault in proxy.faults)

    hold = Fault("hold", "GET", ".tar", skip=1)
    proxy.faults = [hold]
    process = multiprocessing.get_context("fork").Process(
        target=lambda: batches_of(loader_of(url, tmp_path / "c"))
    )
    process.start()
    assert hold.reached.wait(30)
    os.kill(process.pid, signal.SIGKILL)  # in the middle of a fetch
    process.join()
    hold.release.set()
    proxy.faults = []
    expect_equal(batches_of(loader_of(url, tmp_path / "c")), expected)

    server = proxy.url.replace("://", "://me:hunter2@")
    address = f"{server}/{bucket.removeprefix('s3://')}/set"
    expect_equal(batches_of(loader_of(address, tmp_path / "d")), expected)


def test_a_web_server_without_ranges_is_refused_for_large_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "_SMALL", 30_000)
    monkeypatch.setattr(dataset, "BLOCK_BYTES", 10_000)
    write_lengths(tmp_path / "set", LENGTHS[:10], per_shard=10)
    handler = functools.partial(_QuietHandler, directory=str(tmp_path / "set"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            loader = loader_of(f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
            with pytest.raises(ConfigError, match=r"000000\.tar: the server does not answer"):
                list(loader)
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
