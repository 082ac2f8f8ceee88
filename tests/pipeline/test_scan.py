"""Scanning: every file once, by content, whatever its name and place."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from helpers import write_music

from jatsr_model.audio.sniff import sniff
from pipeline import identify as identify_module
from pipeline.engines.base import Crashed
from pipeline.engines.inline import InlineEngine
from pipeline.engines.local import LocalEngine
from pipeline.identify import Scanned, identify, scan
from pipeline.scan import find_files
from shards.errors import ConfigError


def names(files, root):
    return [os.path.relpath(f.path, root) for f in files]


def test_every_file_at_any_depth_once_and_sorted(tmp_path):
    root = tmp_path / "music"
    for name in ("b/c/d/x.wav", "a.wav", ".hidden/y.wav", "b/z.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    files = find_files([root, root / "b"], tmp_path / "out")
    assert names(files, root) == [".hidden/y.wav", "a.wav", "b/c/d/x.wav", "b/z.txt"]
    assert [f.folder for f in files] == ["music/.hidden", "music", "music/b/c/d", "music/b"]


def test_folders_of_several_sources_are_told_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.wav").write_bytes(name.encode())
    files = find_files([tmp_path / "one", tmp_path / "two" / "x.wav"], tmp_path / "out")
    assert [f.folder for f in files] == ["one", "two"]


def test_addresses_are_never_taken_for_folders(tmp_path):
    with pytest.raises(ConfigError, match="ftp://"):
        find_files(["ftp://host/x"], tmp_path / "out")
    with pytest.raises(ConfigError, match="no such file"):
        find_files([Path("s3://bucket/x")], tmp_path / "out")  # pathlib folds the slashes


def test_symlink_loops_end_and_broken_links_are_reported(tmp_path):
    root = tmp_path / "music"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.wav").write_bytes(b"1")
    (root / "a" / "loop").symlink_to(root)
    (root / "gone.wav").symlink_to(root / "nowhere")
    files = find_files([root], tmp_path / "out")
    assert sorted(names(files, root)) == ["a/x.wav", "gone.wav"]
    assert files[1].problem


def test_the_destination_is_not_scanned(tmp_path):
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / "train" / "000000.tar").write_bytes(b"x")
    (tmp_path / "x.wav").write_bytes(b"x")
    assert names(find_files([tmp_path], tmp_path / "out"), tmp_path) == ["x.wav"]


def test_a_missing_source_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        find_files([tmp_path / "nowhere"], tmp_path / "out")


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"fLaC" + bytes(60), "x.bin", "audio"),
        (b"RIFF\0\0\0\0WAVEfmt ", "x", "audio"),
        (b"RIFF\0\0\0\0AVI LIST", "x.avi", "other"),
        (b"\xff\xfb\x90\x00" + bytes(60), "x.dat", "audio"),
        (b"\xff\xd8\xff\xe0", "cover.jpg", "other"),
        (b"hello", "x.wav", "claims-audio"),
        (b"hello", "x.txt", "other"),
        (b"", "x.mp3", "claims-audio"),
        (b"\x00\x05\x16\x07", "._x.mp3", "other"),
        (b"\0\0\0\x20ftypM4A ", "song", "audio"),
        (b"\0\0\0\x20ftypisom", "film.mp4", "audio"),
        (b"\0\0\0\x20ftypqt  ", "film.mov", "other"),
    ],
)
def test_content_decides_and_the_name_only_where_it_does_not(head, name, kind):
    assert sniff(head, name)[0] == kind


def test_identity_is_content_not_name_and_known_files_are_not_hashed(tmp_path):
    first = write_music(tmp_path / "a.flac", 1.0)
    second = tmp_path / "other name.bin"
    shutil.copy(first, second)
    one, two = (identify(f, {}) for f in find_files([tmp_path], tmp_path / "out"))
    assert one.track == two.track
    assert len(one.track) == 24
    found = find_files([first], tmp_path / "out")[0]
    assert identify(found, {(found.path, found.size, found.mtime_ns): "k" * 24}).track == "k" * 24


def test_header_durations_that_cannot_be_true_are_not_believed(tmp_path):
    path = write_music(tmp_path / "x.wav", 1.0)
    item = identify(find_files([path], tmp_path)[0], {})
    assert abs(item.seconds - 1.0) < 0.01
    data = bytearray(path.read_bytes())
    data[28:32] = (1).to_bytes(4, "little")  # bytes per second
    data[24:28] = (1).to_bytes(4, "little")  # rate: now 44100 "seconds"
    path.write_bytes(bytes(data))
    assert identify(find_files([path], tmp_path)[0], {}).seconds < 100


def test_parallel_scan_equals_serial_scan(tmp_path, monkeypatch):
    for index in range(40):
        (tmp_path / f"{index}.mp3").write_bytes(os.urandom(index))
    files = find_files([tmp_path], tmp_path / "out")
    serial = scan(files, {}, InlineEngine(), [], lambda _: None)
    monkeypatch.setattr("pipeline.identify._PARALLEL_FROM", {False: 1})
    monkeypatch.setattr("pipeline.identify._FILES_PER_TASK", {False: 7})
    seen: list[int] = []
    assert scan(files, {}, LocalEngine(2), [str(tmp_path)], seen.append) == serial
    assert sum(seen) == 40


class Fragile:
    """An engine whose workers die of one file."""

    def run(self, session, tasks):
        work = session.open(lambda _: None)
        for task in tasks:
            if any(found.path.endswith("13.mp3") for found in task.files):
                yield Crashed(task, "died")
            else:
                yield from work(iter([task]))


def test_a_file_that_crashes_its_reader_costs_only_itself(tmp_path, monkeypatch):
    for index in range(40):
        write_music(tmp_path / f"{index}.mp3", 0.1, index)
    files = find_files([tmp_path], tmp_path / "out")
    whole = scan(files, {}, InlineEngine(), [], lambda _: None)
    monkeypatch.setattr("pipeline.identify._PARALLEL_FROM", {False: 1})
    monkeypatch.setattr("pipeline.identify._FILES_PER_TASK", {False: 7})
    seen: list[int] = []
    broken = scan(files, {}, Fragile(), [], seen.append)
    assert sum(seen) == 40
    for before, after in zip(whole, broken, strict=True):
        if before.found.path.endswith("13.mp3"):
            assert (after.kind, after.track) == ("claims-audio", "")
            assert "died" in after.what
        else:
            assert after == before


def test_scanning_is_cheap(tmp_path):
    """A guard against an accidental rehash or decode; the figure itself is in benchmarks/."""
    source = write_music(tmp_path / "x.wav", 0.1)
    for index in range(200):
        shutil.copy(source, tmp_path / f"{index}.wav")
    files = find_files([tmp_path], tmp_path / "out")
    began = time.perf_counter()
    scan(files, {}, InlineEngine(), [], lambda _: None)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("parallel", [1, 1000])
def test_a_scan_that_is_killed_goes_on_where_it_was(tmp_path, monkeypatch, parallel):
    for index in range(12):
        write_music(tmp_path / f"{index:02}.wav", 0.1, index)
    files = find_files([tmp_path], tmp_path / "out")
    whole = scan(files, {}, InlineEngine(), [], lambda _: None)
    monkeypatch.setattr(identify_module, "_PARALLEL_FROM", {False: parallel})
    monkeypatch.setattr(identify_module, "_FILES_PER_TASK", {False: 1})
    monkeypatch.setattr(identify_module, "_KEEP_SECONDS", 0.0)
    kept: list[Scanned] = []
    read: list[str] = []
    real = identify_module.track_id

    def keep(scanned):
        kept[:] = scanned

    def reading(path):
        if len(read) in (4, 7):
            read.append("")
            raise KeyboardInterrupt
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(identify_module, "track_id", reading)

    def known():
        return {(k.found.path, k.found.size, k.found.mtime_ns): k for k in kept}

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            scan(files, known(), InlineEngine(), [], lambda _: None, keep)
    assert scan(files, known(), InlineEngine(), [], lambda _: None, keep) == whole
    assert len(read) == 12 + 2  # nothing twice
