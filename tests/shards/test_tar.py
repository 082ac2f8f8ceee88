"""Runs of tar members: deterministic, concatenable, and never silently short."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

from shards.errors import FormatError
from shards.tar import END_OF_ARCHIVE, load_npy, npy_bytes, read_samples, tar_run


def run(key: str, seed: int) -> bytes:
    codes = np.random.default_rng(seed).integers(0, 1024, (1, 9, 7 + seed)).astype(np.uint16)
    return tar_run(key, {"json": b"{}", "hr.npy": npy_bytes(codes), "txt": "ä".encode()})


def test_same_sample_same_bytes_and_every_varying_field_is_pinned():
    first, second = run("abc_0000", 1), run("abc_0000", 1)
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first + END_OF_ARCHIVE)) as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
            assert info.mode == 0o644
            assert not info.pax_headers


def test_concatenated_runs_are_one_tar(tmp_path):
    runs = [run(f"abc_{i:04d}", i) for i in range(5)]
    path = tmp_path / "x.tar"
    path.write_bytes(b"".join(runs) + END_OF_ARCHIVE)
    offset = 0
    for (key, start, size, members), expected in zip(read_samples(path), runs, strict=True):
        assert (start, size) == (offset, len(expected))
        assert path.read_bytes()[start : start + size] == expected
        index = int(key[-4:])
        assert load_npy(members["hr.npy"]).shape == (1, 9, 7 + index)
        offset += size


@pytest.mark.parametrize("damage", ["header", "truncated", "no end", "garbage"])
def test_damage_is_never_taken_for_the_end(tmp_path, damage):
    first, second = run("abc_0000", 0), run("abc_0001", 1)
    data = bytearray(first + second + END_OF_ARCHIVE)
    if damage == "header":
        data[len(first) + 3] ^= 1
    elif damage == "truncated":
        del data[len(first) + 600 :]
    elif damage == "no end":
        del data[-1024:]
    else:
        data[: len(data)] = b"x" * len(data)
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match=r"x\.tar"):
        list(read_samples(path))


def test_keys_that_readers_would_split_are_refused():
    with pytest.raises(ValueError, match="no dot"):
        tar_run("song.v2", {"json": b""})


def test_pickles_are_refused():
    buffer = io.BytesIO()
    np.save(buffer, np.array([object()]), allow_pickle=True)
    with pytest.raises(FormatError, match="array"):
        load_npy(buffer.getvalue())
