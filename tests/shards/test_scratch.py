"""Scratch folders: gone when their user is, whatever others do at the same time."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from shards.errors import EnvironmentFailure
from shards.scratch import scratch_folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"jatsr-{os.getuid()}"


def test_many_come_and_go_at_once(root):
    """Nobody removes what another one is just making."""

    def use(_):
        with scratch_folder() as folder:
            (folder / "file").write_bytes(b"mine")
            return (folder / "file").read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(400))) == {b"mine"}
    assert not list(root.iterdir())


def test_what_nobody_holds_is_swept_up(root):
    with scratch_folder() as held:
        (root / "killed while it was made").mkdir()
        (root / "killed later").mkdir()
        (root / "killed later" / "lock").touch()
        with scratch_folder() as folder:
            assert set(root.iterdir()) == {held, folder}


def test_a_link_put_there_by_somebody_else_is_not_followed(root, tmp_path):
    (tmp_path / "home" / "work").mkdir(parents=True)
    (tmp_path / "home" / "work" / "lock").touch()
    root.symlink_to(tmp_path / "home")
    with pytest.raises(EnvironmentFailure, match="TMPDIR"), scratch_folder():
        pass
    assert (tmp_path / "home" / "work" / "lock").exists()
