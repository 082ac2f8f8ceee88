"""Killed and resumed equals uninterrupted; reruns do nothing; additions touch nothing."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from helpers import problems, sample_bytes, shard_bytes, write_music

from jatsr_model.codecs import CodecConfig, load, resolve
from pipeline import assemble, identify, publish
from pipeline import build as build_module
from pipeline.parts import PartStore, RunWriter
from shards import local, statistics
from shards.errors import ConfigError, EnvironmentFailure, FormatError
from shards.layout import LEDGER, SAMPLES, SILENCE, STATISTICS
from shards.manifest import Manifest, read_manifest
from shards.statistics import read_totals
from shards.storage import LocalStore
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table
from shards.verify import verify


class Killed(BaseException):
    """Stands for a process that ends here; nothing may catch it."""


OPTIONS = {"val_fraction": 0.3, "shard_hours": 0.003, "lr": ["filters:2000-16000"]}

# Every place where a build changes the disk, and how often it is passed before the blow falls.
BLOWS = [
    (RunWriter, "append", 0),
    (RunWriter, "append", 5),
    (RunWriter, "commit", 2),
    (PartStore, "save", 0),
    (PartStore, "save", 4),
    (assemble, "concatenate", 1),
    (assemble, "shard_moments", 0),
    (LocalStore, "move", 0),
    (local.os, "replace", 20),
    (publish, "_write_silence", 0),
    (publish, "_samples", 0),
    (publish, "write_statistics", 0),
    (publish, "sha256_tree", 0),
    (publish, "write_table", 0),
    (publish, "write_table", 1),
    (Manifest, "write", 0),
]


def blow(monkeypatch, place, name, passes, error, after):
    """Make the function fail on call number ``passes``, before or after it has done its work."""
    real = getattr(place, name)
    calls = 0

    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > passes:
            if after:
                real(*args, **kwargs)
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(place, name, wrapped)


@pytest.fixture(scope="module")
def reference(album, build, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "out"
    build(album, out, **OPTIONS)
    return shard_bytes(out)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("place", "name", "passes"), BLOWS, ids=[f"{n}-{k}" for _, n, k in BLOWS])
def test_killed_anywhere_and_resumed_equals_uninterrupted(
    album, build, tmp_path, monkeypatch, reference, place, name, passes, after
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        blow(patch, place, name, passes, Killed(), after)
        with pytest.raises(Killed):
            build(album, out, **OPTIONS)
    outcome = build(album, out, **OPTIONS)
    assert shard_bytes(out) == reference
    assert not (out / ".jatsr").exists()
    codec = load(resolve(CodecConfig(name="mdct")))
    assert not [p for c in verify(out, codec.spaces) for p in c.problems]
    if place is PartStore and passes == 4:
        assert outcome.tally.resumed >= 4


def test_a_full_disk_stops_the_build_resumably(album, build, tmp_path, monkeypatch, reference):
    out = tmp_path / "out"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.tar")
    with monkeypatch.context() as patch:
        blow(patch, RunWriter, "append", 3, full, after=False)
        with pytest.raises(EnvironmentFailure, match="same command"):
            build(album, out, **OPTIONS)
    build(album, out, **OPTIONS)
    assert shard_bytes(out) == reference


def test_a_part_torn_by_a_power_cut_is_found_and_built_again(
    album, build, tmp_path, monkeypatch, reference
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        blow(patch, assemble, "concatenate", 0, Killed(), after=False)
        with pytest.raises(Killed):
            build(album, out, **OPTIONS)
    first, second, third = sorted(out.glob(".jatsr/*/parts/*/*.tar"))[:3]
    for part in (first, second):
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(bytes(data))
    third.with_suffix(".json").write_bytes(b"")
    build(album, out, **OPTIONS)
    assert shard_bytes(out) == reference


def test_parts_that_vanish_under_a_running_build_are_never_left_out(
    album, build, tmp_path, monkeypatch, reference
):
    real, seen = assemble.concatenate, []

    def lossy(shard, store, path):
        if not seen:
            seen.append(shard)
            store.discard(shard.tracks[0])
        return real(shard, store, path)

    monkeypatch.setattr(assemble, "concatenate", lossy)
    build(album, tmp_path / "out", **OPTIONS)
    assert shard_bytes(tmp_path / "out") == reference


def test_a_second_run_does_nothing(album, build, tmp_path):
    out = tmp_path / "out"
    build(album, out, **OPTIONS)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    outcome = build(album, out, **OPTIONS)
    assert not outcome.changed
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def test_new_files_are_added_and_nothing_else_changes(album, build, tmp_path):
    music, out = tmp_path / "music", tmp_path / "out"
    shutil.copytree(album, music)
    late = [music / "a" / "two.flac", music / "c" / "nine.ogg"]
    kept = {path: path.read_bytes() for path in late}
    for path in late:
        path.unlink()
    build(music, out, **OPTIONS)
    first = shard_bytes(out)
    splits = {r["key"]: r["split"] for r in read_table(out, SAMPLES, SAMPLES_SCHEMA)}
    for path, data in kept.items():
        path.write_bytes(data)
    outcome = build(music, out, **OPTIONS)
    assert len(outcome.plan.tasks) == 2
    second = shard_bytes(out)
    assert {name: second[name] for name in first} == first
    rows = read_table(out, SAMPLES, SAMPLES_SCHEMA)
    assert {r["key"]: r["split"] for r in rows if r["key"] in splits} == splits
    # The same samples and statistics as a build of everything at once.
    build(music, tmp_path / "whole", **OPTIONS)
    assert sample_bytes(out) == sample_bytes(tmp_path / "whole")
    for split in ("train", "val"):
        ours = read_totals(out, split)
        theirs = read_totals(tmp_path / "whole", split)
        assert all(ours[stream].same_as(theirs[stream]) for stream in theirs)


def test_files_that_vanish_stay_in_the_dataset_and_the_ledger(album, build, tmp_path):
    music, out = tmp_path / "music", tmp_path / "out"
    shutil.copytree(album, music)
    build(music, out)
    before = shard_bytes(out)
    gone = music / "a" / "one.wav"
    data = gone.read_bytes()
    gone.unlink()
    build(music, out)
    assert shard_bytes(out) == before
    rows = {row["source"]: row for row in read_table(out, LEDGER, LEDGER_SCHEMA)}
    assert "gone" in rows[str(gone)]["reason"]
    gone.write_bytes(data)
    build(music, out)
    rows = {row["source"]: row for row in read_table(out, LEDGER, LEDGER_SCHEMA)}
    assert rows[str(gone)]["reason"] is None
    codec = load(resolve(CodecConfig(name="mdct")))
    assert not [p for c in verify(out, codec.spaces) for p in c.problems]


def test_statistics_lost_in_an_interrupted_update_are_derived_again(build, tmp_path):
    music, out = tmp_path / "music", tmp_path / "out"
    write_music(music / "a.wav", 1.0, 1)
    build(music, out, val_fraction=0.0)
    totals = read_totals(out, "train")["hr"]
    shutil.rmtree(out / STATISTICS)
    write_music(music / "b.wav", 1.0, 2)
    build(music, out, val_fraction=0.0)
    table = statistics.read_shard_statistics(out)["train"]
    assert table["train/000000.tar"]["hr"].same_as(totals, relative=0)
    assert len(table) == 2


@pytest.mark.parametrize(
    ("options", "field", "flag"),
    [
        ({"channels": "stereo"}, "channels", "--channels"),
        ({"lr": ["sinc:8000"]}, "degrade", "--lr"),
        ({"loudness": -20}, "loudness", "--loudness"),
        ({"val_fraction": 0.5}, "split", "--val-fraction"),
        ({"excerpt_seconds": 3.0}, "excerpt_frames", "--excerpt-seconds"),
        ({"captions": "tags"}, "captions", "--captions"),
    ],
)
def test_other_options_are_refused_and_named(build, tmp_path, options, field, flag):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    build(tmp_path / "in", tmp_path / "out")
    before = shard_bytes(tmp_path / "out")
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "in", tmp_path / "out", **options)
    assert field in str(caught.value)
    assert flag in str(caught.value)
    assert "--rebuild" in str(caught.value)
    assert shard_bytes(tmp_path / "out") == before
    assert not (tmp_path / "out" / ".jatsr").exists()
    # A refused command changes nothing: the old options still work.
    assert not build(tmp_path / "in", tmp_path / "out").changed
    build(tmp_path / "in", tmp_path / "out", rebuild=True, **options)
    assert read_manifest(tmp_path / "out").fingerprint


def test_an_unfinished_build_with_other_options_is_not_thrown_away_silently(
    build, tmp_path, monkeypatch
):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    with monkeypatch.context() as patch:
        blow(patch, assemble, "concatenate", 0, Killed(), after=False)
        with pytest.raises(Killed):
            build(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match="channels"):
        build(tmp_path / "in", tmp_path / "out", channels="stereo")
    build(tmp_path / "in", tmp_path / "out", channels="stereo", rebuild=True)


def test_foreign_folders_are_not_built_into(build, tmp_path):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_bytes(b"x")
    with pytest.raises(ConfigError, match="DEST"):
        build(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match="DEST"):
        build(tmp_path / "in", tmp_path / "in" / "a.wav")


def test_two_builds_at_once_are_refused(build, tmp_path):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    lock = LocalStore(tmp_path / "out").lock(".jatsr/lock")
    with lock, pytest.raises(ConfigError, match="another process"):
        build(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "asks_codec"),
    [
        ("no statistics", True),
        ("damaged statistics", True),
        ("no silence", True),
        ("damaged silence", True),
        ("orphan", False),
        ("old ledger", False),
    ],
)
def test_running_again_mends_what_an_interrupted_update_left(
    build, tmp_path, monkeypatch, damage, asks_codec
):
    out = tmp_path / "out"
    write_music(tmp_path / "in" / "a.wav", 1.0)
    build(tmp_path / "in", out, val_fraction=0.0)
    if damage == "no statistics":
        shutil.rmtree(out / STATISTICS)
    elif damage == "damaged statistics":
        next((out / STATISTICS).rglob("zarr.json")).write_bytes(b"{")
    elif damage == "no silence":
        (out / SILENCE).unlink()
    elif damage == "damaged silence":
        (out / SILENCE).write_bytes((out / SILENCE).read_bytes()[:-1] + b"x")
    elif damage == "orphan":
        shutil.copy(out / "train" / "000000.tar", out / "train" / "000001.tar")
    else:
        from shards.tables import arrow_table, write_table

        rows = read_table(out, "ledger.parquet", LEDGER_SCHEMA)
        row = {**rows[0], "status": "skipped", "source": "/x", "track": None}
        write_table(out, "ledger.parquet", arrow_table([*rows, row], LEDGER_SCHEMA))
    assert problems(out)
    real, loaded = build_module.load, []
    monkeypatch.setattr(build_module, "load", lambda spec: loaded.append(spec) or real(spec))
    build(tmp_path / "in", out, val_fraction=0.0)
    assert bool(loaded) == asks_codec
    assert not problems(out)
    assert not build(tmp_path / "in", out, val_fraction=0.0).changed


def test_a_missing_shard_is_an_error_not_nothing_to_do(build, tmp_path):
    out = tmp_path / "out"
    write_music(tmp_path / "in" / "a.wav", 1.0)
    build(tmp_path / "in", out, val_fraction=0.0)
    (out / "train" / "000000.tar").unlink()
    with pytest.raises(FormatError, match=r"000000\.tar"):
        build(tmp_path / "in", out, val_fraction=0.0)
    build(tmp_path / "in", out, val_fraction=0.0, rebuild=True)
    assert not problems(out)


def test_litter_of_a_killed_worker_is_swept_up(build, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_music(tmp_path / "in" / "a.wav", 1.0)
    with monkeypatch.context() as patch:
        blow(patch, RunWriter, "commit", 0, Killed(), after=False)
        patch.setattr(RunWriter, "abandon", lambda self: self._file.close())
        with pytest.raises(Killed):
            build(tmp_path / "in", out)
    assert list(out.glob(".jatsr/*/parts/*/.*.tmp"))
    with monkeypatch.context() as patch:
        blow(patch, assemble, "concatenate", 0, Killed(), after=False)
        with pytest.raises(Killed):
            build(tmp_path / "in", out)
    assert not list(out.glob(".jatsr/*/parts/*/.*.tmp"))


def test_a_limit_below_what_is_there_changes_nothing(album, build, tmp_path):
    build(album, tmp_path / "out")
    assert not build(album, tmp_path / "out", limit=2).changed
    build(album, tmp_path / "two", limit=2)
    assert len(sample_bytes(tmp_path / "two")) < len(sample_bytes(tmp_path / "out"))
    build(album, tmp_path / "two")
    assert sample_bytes(tmp_path / "two") == sample_bytes(tmp_path / "out")
    assert not problems(tmp_path / "two")


def test_a_changed_file_keeps_its_split_and_says_so(build, tmp_path):
    for index in range(6):
        write_music(tmp_path / "in" / f"{index}.wav", 1.0, index)
    build(tmp_path / "in", tmp_path / "out", val_fraction=0.5)
    before = {
        r["source"]: r["split"] for r in read_table(tmp_path / "out", SAMPLES, SAMPLES_SCHEMA)
    }
    assert set(before.values()) == {"train", "val"}
    for index in range(6):
        write_music(tmp_path / "in" / f"{index}.wav", 1.0, 50 + index)
    build(tmp_path / "in", tmp_path / "out", val_fraction=0.5)
    rows = read_table(tmp_path / "out", SAMPLES, SAMPLES_SCHEMA)
    assert len(rows) == 12
    assert all(row["split"] == before[row["source"]] for row in rows)
    assert not problems(tmp_path / "out")


def test_an_empty_source_is_not_a_finished_build(build, tmp_path):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    build(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.wav").unlink()
    with pytest.raises(ConfigError, match="found none"):
        build(tmp_path / "in", tmp_path / "out")


def test_interrupted_scans_are_not_paid_twice(build, tmp_path, monkeypatch):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    with monkeypatch.context() as patch:
        blow(patch, assemble, "concatenate", 0, Killed(), after=False)
        with pytest.raises(Killed):
            build(tmp_path / "in", tmp_path / "out")
    for name in ("sha256_file", "sniff", "probe"):
        monkeypatch.setattr(identify, name, lambda *_: pytest.fail("read again"))
    assert build(tmp_path / "in", tmp_path / "out").changed


def test_a_dataset_that_appears_while_sources_are_searched_is_not_mixed_with(
    album, build, tmp_path, monkeypatch
):
    """Another build with other options begins and ends between our first look and our lock."""
    out = tmp_path / "out"
    real = build_module.find_files

    def slow(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(build_module, "find_files", real)
            build(album / "a", out, channels="stereo")
        return real(*arguments)

    monkeypatch.setattr(build_module, "find_files", slow)
    with pytest.raises(ConfigError, match="channels"):
        build(album / "b", out)
    assert read_manifest(out).config["channels"] == "stereo"


def test_a_damaged_part_whose_source_fails_now_stops_the_build(album, build, tmp_path, monkeypatch):
    music, out = tmp_path / "music", tmp_path / "out"
    shutil.copytree(album / "a", music)
    with monkeypatch.context() as patch:
        blow(patch, assemble, "concatenate", 0, Killed(), False)
        with pytest.raises(Killed):
            build(music, out)
    for part in out.glob(".jatsr/*/parts/*/*.tar"):
        data = bytearray(part.read_bytes())
        data[600] ^= 1
        part.write_bytes(bytes(data))
    from pipeline.stages import source

    with monkeypatch.context() as patch:
        real = source.open_audio
        patch.setattr(source, "open_audio", lambda p: real(p / "missing"))
        with pytest.raises(EnvironmentFailure, match="3 tracks were staged, are damaged"):
            build(music, out)
    build(music, out)
    assert len({key.split("_")[0] for key in sample_bytes(out)}) == 3
