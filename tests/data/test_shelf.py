"""Open blocks: the right frames, or an error that says what is wrong with the shard."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from data_blocks import HeldFolder, RemoteFolder, blocks_in, exit_code, forked
from datasets import FRAMES, ROWS, STREAMS, write_dataset

from jatsr_data import open_samples, shelf
from jatsr_data.blocks import Block, OpenBlock
from jatsr_data.cache import Cache
from jatsr_data.shelf import Shelf
from shards.errors import ConfigError, FormatError
from shards.files import sha256_file
from shards.local import LocalStore
from shards.storage import Store, open_store
from shards.tar import npy_bytes, tar_run

CLOSED = r"after Shelf\.close"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two shards of five samples."""
    write_dataset(tmp_path / "dataset", samples=5)
    return tmp_path / "dataset"


def shelf_of(store: Store | Path, cache: Cache | None = None, capacity: int = 100, **options):
    where = LocalStore(store) if isinstance(store, Path) else store
    return closing(Shelf(where, STREAMS, cache, capacity=capacity, **options))


def files_open_in(folder: Path) -> int:
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith(str(folder)) for link in links if os.path.exists(link))


def expect_all(opened: Shelf, dataset: Path, blocks: list[Block], draws: int = 4) -> None:
    """Compare random crops of all samples, in any order, with what another reader finds."""
    samples = {sample.key: sample for sample in open_samples(dataset)}
    draw = random.Random(1)
    for block in draw.sample(blocks, len(blocks)):
        found = opened.get(block)
        for i, key in enumerate(block.keys):
            sample = samples.pop(key)
            assert found.caption(i) == sample.caption
            assert np.array_equal(found.spectrum[i], sample.spectrum)
            assert np.array_equal(found.bands[i], sample.bands)
            for stream in STREAMS:
                stored = sample.streams[stream]
                assert found.shape(i, stream) == stored.shape
                for _ in range(draws):
                    start, end = sorted(draw.sample(range(FRAMES + 1), 2))
                    out = np.full((3, 1, ROWS, FRAMES), 7, stored.dtype)
                    found.read(i, stream, start, out[1, :, :, : end - start])
                    assert np.array_equal(out[1, ..., : end - start], stored[..., start:end])
                    assert (out[1, ..., end - start :] == 7).all()
                    assert (out[[0, 2]] == 7).all()
    assert not samples


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_crops_are_those_of_the_samples(dataset, tmp_path, remote, verify, memory, monkeypatch):
    monkeypatch.setattr(shelf, "_OPEN_FILES", 2)
    monkeypatch.setattr(shelf, "_MEMORY", memory)
    store, threads = RemoteFolder(dataset), set(threading.enumerate())
    for samples in (1, 2, 5):
        cache, blocks = Cache(tmp_path / f"{samples}", 1 << 30), blocks_in(dataset, samples)
        with shelf_of(store if remote else dataset, cache, verify=verify) as opened:
            expect_all(opened, dataset, blocks)
            opened.want(blocks)
            expect_all(opened, dataset, blocks)
        assert set(threading.enumerate()) <= threads
        expected = [(b.shard, b.offset, b.bytes) for b in blocks] if remote else []
        assert sorted(store.reads) == sorted(expected)
        store.reads.clear()


SHAPES = [(1, 9, 700), (2, 3, 20_000), (1, 70, 9000), (2, 2, 1), (1, 1, 300_000), (2, 512, 130)]


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_of_any_shape(shape):
    draw = np.random.default_rng(3)
    stored = draw.integers(0, 1 << 16, shape).astype(np.uint16)
    envelope = {"spectrum.npy": npy_bytes(np.zeros((1, 5), np.uint8)),
                "bands.npy": npy_bytes(np.zeros((1, 1, 3), np.uint8))}  # fmt: skip
    run = tar_run("a_0000", {"hr.npy": npy_bytes(stored), "txt": "ä".encode(), **envelope})
    block = Block("x", "0" * 64, 0, 0, ("a_0000",), (len(run),), (b"",))
    opened = OpenBlock(block, ("hr",), lambda position, size: run[position : position + size], "x")
    assert opened.caption(0) == "ä"
    for frames in {1, min(shape[2], 512), shape[2], 0}:
        for start in {0, (shape[2] - frames) // 2, shape[2] - frames}:
            out = np.zeros((*shape[:2], frames), np.uint16)
            opened.read(0, "hr", start, out)
            assert np.array_equal(out, stored[..., start : start + frames])
    for start, wrong in [(-1, out[..., :1]), (shape[2], np.zeros((*shape[:2], 1), np.uint16)),
                         (0, np.zeros((*shape[:2], 1), np.int16)),
                         (0, np.zeros((shape[0], shape[1] + 1, 1), np.uint16))]:  # fmt: skip
        with pytest.raises(ValueError, match="hr"):
            opened.read(0, "hr", start, wrong)


def test_every_damaged_byte_is_found(dataset):
    draw = random.Random(2)
    path = dataset / "train/000001.tar"
    whole = path.read_bytes()
    blocks = [block for block in blocks_in(dataset, 2) if block.shard == "train/000001.tar"]
    for _ in range(20):
        block = draw.choice(blocks)
        position = draw.randrange(block.bytes)
        damaged = bytearray(whole)
        damaged[block.offset + position] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with shelf_of(dataset) as opened, pytest.raises(FormatError) as caught:
            opened.get(block)
        i = 0 if position < block.sizes[0] else 1
        start = block.offset + i * block.sizes[0]
        found = hashlib.sha256(damaged[start : start + block.sizes[i]]).hexdigest()[:32]
        assert caught.value.message == (
            f"{path}: sample {block.keys[i]} at byte {start}: expected bytes with sha256 "
            f"{block.digests[i].hex()}..., found {found}..."
        )
        assert "jatsr verify" in caught.value.hint
    path.write_bytes(whole)


def test_without_hashes_the_structure_is_checked(dataset):
    draw = random.Random(3)
    path, block = dataset / "train/000000.tar", blocks_in(dataset, 5)[0]
    whole = path.read_bytes()
    for position in [0, 12, 30, 134, 156, 258, 260, 264, 345]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with shelf_of(dataset, verify=False) as opened, pytest.raises(FormatError) as caught:
            opened.get(block)
        assert f"{path}: sample {block.keys[0]} at byte 0: expected" in caught.value.message
    path.write_bytes(whole)
    with shelf_of(dataset, verify=False) as opened:
        for other in (replace(block, keys=("x", *block.keys[1:])),
                      replace(block, sizes=(block.sizes[0] - 512, *block.sizes[1:])),
                      replace(block, offset=512),
                      replace(block, offset=block.shard_bytes - 1024)):  # fmt: skip
            with pytest.raises(FormatError, match="expected"):
                opened.get(other)
    for streams in ("hr", "lr7"), ("spectrum",):
        opened = Shelf(LocalStore(dataset), streams, None, capacity=3)
        with closing(opened), pytest.raises(FormatError, match=f"{streams[-1]}.npy"):
            opened.get(block)


def test_a_shard_of_another_size(dataset, tmp_path):
    path, block = dataset / "train/000000.tar", blocks_in(dataset, 5)[0]
    whole = path.read_bytes()
    for size in (0, 1000, len(whole) - 1, len(whole) + 1):
        path.write_bytes((whole + b"x")[:size])
        with shelf_of(dataset) as opened:
            message = f"{path}: expected {len(whole)} bytes, found {size}"
            for _ in range(2):
                with pytest.raises(FormatError, match=message):
                    opened.get(block)
                opened.want([block])
    path.write_bytes(whole[:5000])
    store, cache = RemoteFolder(dataset), Cache(tmp_path / "cache", 1 << 30)
    with shelf_of(store, cache) as opened:
        with pytest.raises(FormatError, match=f"expected {len(whole)} bytes, found only 5000"):
            opened.get(block)
        path.unlink()
        with pytest.raises(FormatError, match=f"expected {len(whole)} bytes, found no such file"):
            opened.get(block)
        path.write_bytes(whole)
        opened.get(block)  # an error is not remembered
    path.unlink()
    with shelf_of(dataset) as opened:
        with pytest.raises(FormatError, match=f"expected {len(whole)} bytes, found no file"):
            opened.get(block)
        path.write_bytes(whole)
        opened.get(block)


def test_a_shard_that_changes_while_it_is_read(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "_OPEN_FILES", 1)
    monkeypatch.setattr(shelf, "_MEMORY", 0)
    path, (block, other) = dataset / "train/000000.tar", blocks_in(dataset, 5)
    out, expected = (np.zeros((1, ROWS, FRAMES), np.float16) for _ in range(2))
    with shelf_of(dataset) as opened:
        found = opened.get(block)
        found.read(0, "hr", 0, expected)
        os.replace(shutil.copy(path, tmp_path / "copy"), path)
        found.read(0, "hr", 0, out)
        assert np.array_equal(out, expected)  # from the old file, which is still open
        opened.get(other)
        with pytest.raises(FormatError, match="expected the file that was there before"):
            found.read(0, "hr", 0, out)
    with shelf_of(dataset) as opened:
        found = opened.get(block)
        os.truncate(path, 5000)
        with pytest.raises(FormatError, match=f"expected {block.shard_bytes} bytes, found only"):
            found.read(4, "hr", 0, out)
        path.unlink()
        opened.get(other)
        with pytest.raises(FormatError, match="found no file"):
            found.read(0, "hr", 0, out)


def test_a_shard_of_another_dataset(dataset, tmp_path):
    block = blocks_in(dataset, 5)[0]
    shutil.copy(dataset / "train/000001.tar", dataset / "train/000000.tar")
    for store in (LocalStore(dataset), RemoteFolder(dataset)):
        message = f"expected bytes with sha256 {block.digests[0].hex()}"
        cache = Cache(tmp_path / "cache", 1 << 30)
        with shelf_of(store, cache) as opened, pytest.raises(FormatError, match=message):
            opened.get(block)
    assert not list((tmp_path / "cache").glob("*/*"))


def test_a_damaged_file_of_the_cache_is_fetched_again_once(dataset, tmp_path):
    store, cache = RemoteFolder(dataset), Cache(tmp_path / "cache", 1 << 30)
    blocks = blocks_in(dataset, 2)
    for expected in (len(blocks), 0, len(blocks), 0):
        with shelf_of(store, cache) as opened:
            expect_all(opened, dataset, blocks)
        assert len(store.reads) == expected
        store.reads.clear()
        if not expected:
            for path in cache.root.glob("*/*"):
                data = bytearray(path.read_bytes())
                data[random.randrange(len(data))] ^= 1
                path.write_bytes(data)


def test_a_file_that_the_cache_has_removed_is_fetched_again(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shelf, "_OPEN_FILES", 2)
    monkeypatch.setattr(shelf, "_MEMORY", 0)
    store, blocks = RemoteFolder(dataset), blocks_in(dataset, 1)
    cache = Cache(tmp_path / "cache", 3 * max(b.bytes for b in blocks))
    with shelf_of(store, cache, fetchers=1) as opened:  # many at a time may all be unfinished
        opened.want(blocks)
        expect_all(opened, dataset, blocks)
        expect_all(opened, dataset, blocks)
    assert len(store.reads) > len(blocks)
    assert set(store.reads) == {(b.shard, b.offset, b.bytes) for b in blocks}
    with (
        pytest.raises(ConfigError, match="cache_bytes"),
        shelf_of(store, Cache(tmp_path / "small", 1000)) as opened,
    ):
        opened.get(blocks[0])
    with pytest.raises(ConfigError, match="takes a cache"):
        Shelf(store, STREAMS, None, capacity=3)


def test_no_more_blocks_and_files_are_open_than_asked_for(dataset, monkeypatch):
    monkeypatch.setattr(shelf, "_OPEN_FILES", 3)
    monkeypatch.setattr(shelf, "_MEMORY", 0)
    for number in range(2, 9):
        shutil.copy(dataset / "train/000000.tar", dataset / f"train/00000{number}.tar")
    first = blocks_in(dataset, 1)[0]
    blocks = [replace(first, shard=f"train/00000{number}.tar") for number in (0, *range(2, 9))]
    with shelf_of(dataset, capacity=3) as opened:
        found = [weakref.ref(opened.get(block)) for block in blocks]
        gc.collect()
        assert [ref() is not None for ref in found] == [False] * 5 + [True] * 3
        assert files_open_in(dataset) == 3
        kept = [opened.get(block) for block in blocks[-3:]]
        assert [ref() for ref in found[-3:]] == kept
    assert files_open_in(dataset) == 0
    out = np.zeros((1, ROWS, 1), np.float16)
    for use in (lambda: opened.get(first), lambda: opened.want([first]),
                lambda: kept[0].read(0, "hr", 0, out)):  # fmt: skip
        with pytest.raises(ValueError, match=CLOSED):
            use()
    opened.close()


def test_blocks_are_fetched_side_by_side_and_only_once(dataset, tmp_path):
    store, cache = HeldFolder(dataset), Cache(tmp_path / "cache", 1 << 30)
    blocks = blocks_in(dataset, 1)
    with ThreadPoolExecutor(8) as pool, shelf_of(store, cache, capacity=1, fetchers=3) as opened:
        opened.want(blocks)  # more than the capacity: those in flight are kept
        waiting = [pool.submit(opened.get, block) for block in blocks[:4] * 2]
        assert store.reached.wait(60)
        assert not any(future.done() for future in waiting)
        store.release.set()
        assert all(isinstance(future.result(60), OpenBlock) for future in waiting)
        for block in blocks:
            opened.get(block)
    assert sorted(store.reads) == sorted((b.shard, b.offset, b.bytes) for b in blocks)


def test_closing_ends_what_waits(dataset, tmp_path):
    store, cache = HeldFolder(dataset), Cache(tmp_path / "cache", 1 << 30)
    blocks, threads = blocks_in(dataset, 1), set(threading.enumerate())
    opened = Shelf(store, STREAMS, cache, capacity=100, fetchers=2)
    opened.want(blocks)
    assert store.reached.wait(60)
    closer = threading.Thread(target=opened.close)
    closer.start()
    with pytest.raises(ValueError, match=CLOSED):
        deque(map(opened.want, repeat(blocks)))  # until the other thread is there
    store.release.set()
    closer.join(60)
    assert set(threading.enumerate()) <= threads
    assert len(store.reads) <= 2


def test_shelves_in_other_processes(dataset, tmp_path):
    store, cache = RemoteFolder(dataset), Cache(tmp_path / "cache", 1 << 30)
    blocks = blocks_in(dataset, 2)
    with shelf_of(store, cache) as opened, shelf_of(dataset) as local:
        opened.want(blocks)
        expect_all(local, dataset, blocks)

        def work():
            for shelf in (opened, local):
                shelf.want(blocks)
                expect_all(shelf, dataset, blocks)
                shelf.close()

        children = [forked(work) for _ in range(3)]  # while this process fetches
        expect_all(opened, dataset, blocks)
        assert [exit_code(child) for child in children] == [0] * 3
        for sent in (opened, local):
            with closing(pickle.loads(pickle.dumps(sent))) as received:
                expect_all(received, dataset, blocks)
    assert sorted(store.reads) == sorted((b.shard, b.offset, b.bytes) for b in blocks)


LEAVING = """
import sys, threading
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from data_blocks import HeldFolder, blocks_in
from jatsr_data.cache import Cache
from jatsr_data.shelf import Shelf

store = HeldFolder(Path(sys.argv[1]))
shelf = Shelf(store, ("hr",), Cache(Path(sys.argv[1], "cache"), 1 << 30), capacity=3)
shelf.want(blocks_in(store.path, 1))
assert store.reached.wait(60)
"""


def test_a_process_ends_while_it_fetches(dataset):
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", LEAVING, str(dataset), tests]
    done = subprocess.run(command, timeout=50, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bucket_that_fails(bucket, object_storage, dataset, tmp_path):
    remote, proxy = open_store(bucket).child("data/set"), object_storage.proxy
    for name in ("train/000000.tar", "train/000001.tar"):
        remote.put(dataset / name, name)
    blocks = blocks_in(dataset, 1)
    for kind in ("status", "reset", "cut", "short", "slow", "lost"):
        proxy.fail(kind, method="GET", containing=".tar", skip=1, times=1, status=500)
    cache = Cache(tmp_path / "cache", 1 << 30)
    with shelf_of(remote, cache) as opened:
        opened.want(blocks)
        expect_all(opened, dataset, blocks)
    assert [fault.hits for fault in proxy.faults] == [1] * 6
    for store, number in ((remote, 0), (open_store(bucket), len(blocks))):
        proxy.reset()
        with shelf_of(store, cache) as opened:
            if number:
                with pytest.raises(
                    FormatError, match=f"{bucket}/train/000000.tar: .* no such file"
                ):
                    opened.get(blocks[0])
            else:
                expect_all(opened, dataset, blocks)
                assert not proxy.requests
    proxy.reset()
    with shelf_of(remote, Cache(tmp_path / "fresh", 1 << 30)) as opened:
        opened.want(blocks)
        expect_all(opened, dataset, blocks)
    ranges = [f"bytes={b.offset}-{b.offset + b.bytes - 1}" for b in blocks]
    assert sorted(r.range for r in proxy.requests if r.method == "GET") == sorted(ranges)
    assert sha256_file(dataset / "train/000000.tar") == blocks[0].shard_sha256
