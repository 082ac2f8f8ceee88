"""Files appear whole or not at all; one writer per folder; machine errors are told apart."""

from __future__ import annotations

import errno
import os

import pytest

from shards import files
from shards.errors import ConfigError, EnvironmentFailure, TrackError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    files.write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_umask_does_not_change_what_is_written(tmp_path):
    old = os.umask(0o077)
    try:
        files.write_atomically(tmp_path / "x", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_not_the_tracks_fault(number):
    with pytest.raises(EnvironmentFailure, match="same command"), files.machine_errors("testing"):
        raise OSError(number, os.strerror(number), "/some/file")


def test_other_errors_pass_through():
    with pytest.raises(FileNotFoundError), files.machine_errors("testing"):
        raise FileNotFoundError(errno.ENOENT, "gone")
    with pytest.raises(EnvironmentFailure, match="memory"), files.machine_errors("testing"):
        raise MemoryError


def test_tree_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    first = files.sha256_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert files.sha256_tree(tmp_path) != first


def test_errors_survive_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(TrackError("what", hint="do", stage="decode")))
    assert (error.message, error.hint, error.stage, str(error)) == (
        "what",
        "do",
        "decode",
        "what\n  hint: do",
    )


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Opened before its last holder removed the file, locked after: nobody else would see it."""
    path = tmp_path / "lock"
    real, calls = files.fcntl.flock, []

    def flock(handle, how):
        calls.append(handle)
        if len(calls) == 1:
            path.unlink()
        real(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with files.file_lock(path, tmp_path):
        assert len(calls) == 2
        with pytest.raises(ConfigError, match="another process"), files.file_lock(path, tmp_path):
            pass
