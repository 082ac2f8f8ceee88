"""Thirty hostile files: each ends in its own ledger row, and the good ones do not notice."""

from __future__ import annotations

import os
import shutil
import struct

import numpy as np
import pytest
import soundfile
from helpers import music, sample_bytes, write_music

from shards.errors import ConfigError, EnvironmentFailure
from shards.layout import LEDGER
from shards.tables import LEDGER_SCHEMA, read_table

GOOD = (
    "good one.wav",
    "deep/er/good.two.flac",
    "deep/good one.ogg",
    "good\nfour.mp3",
    "🎵 fünf.flac",
)


def write_good(root):
    for seed, name in enumerate(GOOD):
        write_music(root / name, 1.5, seed=100 + seed)
    write_music(root / ("long " + "x" * 200 + ".wav"), 1.2, seed=200)


def spoil(data: bytes, start: int, new: bytes) -> bytes:
    return data[:start] + new + data[start + len(new) :]


def write_hostile(root) -> dict[str, str]:
    """Write the files; returns name -> status it must end with."""
    scratch = root.parent / "scratch"
    wav = write_music(scratch / "w.wav", 3.0, 1).read_bytes()
    flac = write_music(scratch / "f.flac", 3.0, 2).read_bytes()
    ogg = write_music(scratch / "o.ogg", 3.0, 3).read_bytes()
    mp3 = write_music(scratch / "m.mp3", 3.0, 4).read_bytes()
    aiff = write_music(scratch / "a.aiff", 3.0, 5).read_bytes()
    soundfile.write(scratch / "nan.wav", np.where(np.arange(9000) == 5000, np.nan, 0.1), 44100,
                    subtype="FLOAT")  # fmt: skip
    soundfile.write(scratch / "inf.wav", np.where(np.arange(9000) == 5000, np.inf, 0.1), 44100,
                    subtype="FLOAT")  # fmt: skip
    soundfile.write(scratch / "silent.flac", np.zeros(44100), 44100)
    soundfile.write(scratch / "faint.flac", music(2.0, 6) * 1e-4, 44100, subtype="PCM_24")
    soundfile.write(scratch / "none.wav", np.zeros(0), 44100)
    files: dict[str, tuple[bytes, str]] = {
        "truncated.wav": (wav[: len(wav) // 2], "failed"),
        "truncated.flac": (flac[: len(flac) // 2], "failed"),
        "truncated.aiff": (aiff[: len(aiff) // 2], "failed"),
        "truncated.ogg": (ogg[: len(ogg) // 2], "failed"),
        "playlist.m4a": (b"ffconcat version 1.0\nfile 'mislabelled flac.mp3'\n", "failed"),
        "cut in its header.wav": (wav[:30], "failed"),
        "cut in its header.flac": (flac[:20], "failed"),
        "cut in its header.ogg": (ogg[:40], "failed"),
        "only magic.flac": (b"fLaC", "failed"),
        "empty.wav": (b"", "skipped"),  # a copy of the next one
        "empty too.mp3": (b"", "failed"),
        "empty.txt": (b"", "skipped"),
        "no samples.wav": ((scratch / "none.wav").read_bytes(), "failed"),
        "text.wav": (b"dear diary\n" * 50, "failed"),
        "text.mp3": (b"dear diary,\n" * 50, "failed"),
        "text.flac": (b"dear diary!\n" * 50, "failed"),
        "random.wav": (os.urandom(5000), "failed"),
        "random.ogg": (os.urandom(5000), "failed"),
        "picture.mp3": (b"\xff\xd8\xff\xe0" + os.urandom(3000), "failed"),
        "cover.jpg": (b"\xff\xd8\xff\xe0" + os.urandom(3000), "skipped"),
        "notes.pdf": (b"%PDF-1.4" + bytes(100), "skipped"),
        "nan.wav": ((scratch / "nan.wav").read_bytes(), "failed"),
        "inf.wav": ((scratch / "inf.wav").read_bytes(), "failed"),
        "silent.flac": ((scratch / "silent.flac").read_bytes(), "skipped"),
        "faint.flac": ((scratch / "faint.flac").read_bytes(), "skipped"),
        "mislabelled flac.mp3": (flac, "ok"),
        "mislabelled mp3.wav": (mp3, "ok"),
        "no extension": (ogg, "ok"),
        "twice.flac": (flac, "skipped"),
        "rate zero.wav": (spoil(wav, 24, struct.pack("<I", 0)), "failed"),
        "no channels.wav": (spoil(wav, 22, struct.pack("<H", 0)), "failed"),
        "damaged inside.flac": (spoil(flac, len(flac) // 2, os.urandom(4000)), "failed"),
        "zero byte names\\.wav": (wav, "ok"),
    }
    for name, (data, _) in files.items():
        path = root / "bad" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    expected = {f"bad/{name}": status for name, (_, status) in files.items()}
    (root / "bad" / "loop").symlink_to(root)
    (root / "bad" / "dangling.wav").symlink_to(root / "nowhere.wav")
    os.mkfifo(root / "bad" / "pipe.wav")
    with open(os.fsencode(root / "bad") + b"/not utf \xff.wav", "wb") as file:
        file.write(b"dear diary;\n" * 50)
    return expected | {
        "bad/dangling.wav": "failed",
        "bad/pipe.wav": "failed",
        "bad/not utf \\xff.wav": "failed",
    }


def test_thirty_hostile_files(build, tmp_path):
    good, mixed = tmp_path / "good", tmp_path / "mixed"
    write_good(good)
    shutil.copytree(good, mixed)
    expected = write_hostile(mixed)
    assert len(expected) >= 30
    build(good, tmp_path / "clean")
    outcome = build(mixed, tmp_path / "out", max_failed=1.0)

    ledger = read_table(tmp_path / "out", LEDGER, LEDGER_SCHEMA)
    rows = {os.path.relpath(row["source"], mixed): row for row in ledger}
    assert len(rows) == len(ledger) == len(expected) + 6
    assert {name: rows[name]["status"] for name in expected} == expected
    assert outcome.tally.results["ok"] == 6 + sum(s == "ok" for s in expected.values())
    for name, row in rows.items():
        if row["status"] == "failed":
            assert row["stage"], name
            assert row["reason"], name
            assert row["hint"], name
            assert "defect in jatsr" not in row["hint"], (name, row["reason"])
        if row["status"] == "skipped":
            assert row["reason"], name
    clean, got = sample_bytes(tmp_path / "clean"), sample_bytes(tmp_path / "out")
    assert clean
    assert {key: got[key] for key in clean} == clean


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_row(build, tmp_path):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    locked = write_music(tmp_path / "in" / "b.wav", 1.0, 2)
    locked.chmod(0)
    outcome = build(tmp_path / "in", tmp_path / "out", max_failed=1.0)
    assert dict(outcome.tally.results) == {"ok": 1, "failed": 1}


def test_too_many_failures_publish_nothing_and_can_be_resumed(build, tmp_path):
    write_good(tmp_path / "in")
    (tmp_path / "in" / "text.wav").write_bytes(b"dear diary")
    (tmp_path / "in" / "text.mp3").write_bytes(b"dear diary.")
    from pipeline.tally import TooManyFailed

    with pytest.raises(TooManyFailed, match="2 of 8"):
        build(tmp_path / "in", tmp_path / "out")
    with pytest.raises(TooManyFailed, match="--strict"):
        build(tmp_path / "in", tmp_path / "out", strict=True, max_failed=1.0)
    assert not (tmp_path / "out" / "dataset.json").exists()
    outcome = build(tmp_path / "in", tmp_path / "out", max_failed=0.5)
    assert outcome.tally.resumed == 6
    assert (tmp_path / "out" / "dataset.json").exists()


def test_failed_tracks_are_tried_again_only_when_asked(build, tmp_path, monkeypatch):
    from pipeline.stages import source
    from shards.errors import TrackError

    write_music(tmp_path / "in" / "a.wav", 1.0, 1)
    victim = write_music(tmp_path / "in" / "b.wav", 1.0, 2)
    real = source.open_audio

    def flaky(path):
        if path == victim:
            raise TrackError("no decoder", hint="install one", stage="decode")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(source, "open_audio", flaky)
        build(tmp_path / "in", tmp_path / "out", max_failed=0.5)
    assert not build(tmp_path / "in", tmp_path / "out", max_failed=0.5).changed
    outcome = build(tmp_path / "in", tmp_path / "out", max_failed=0.5, retry_failed=True)
    assert dict(outcome.tally.results) == {"ok": 2}


def test_twenty_failures_in_a_row_with_one_cause_stop_the_build(build, tmp_path):
    for index in range(25):
        path = tmp_path / "in" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"dear diary " + str(index).encode())
    with pytest.raises(EnvironmentFailure, match="20 tracks in a row"):
        build(tmp_path / "in", tmp_path / "out")


def test_running_again_gets_past_files_that_failed_before(build, tmp_path):
    for index in range(22):
        path = tmp_path / "in" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"dear diary " + str(index).encode())
    with pytest.raises(EnvironmentFailure, match="in a row"):
        build(tmp_path / "in", tmp_path / "out", max_failed=0.99)
    write_good(tmp_path / "in")
    outcome = build(tmp_path / "in", tmp_path / "out", max_failed=0.99)
    assert dict(outcome.tally.results) == {"ok": 6, "failed": 22}


def test_a_folder_without_audio_is_an_error_that_says_what_was_found(build, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    with pytest.raises(ConfigError, match="not audio"):
        build(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_file_that_crashes_its_decoder_costs_only_itself(build, tmp_path):
    """The crash is real: a module hooked into the workers kills the process for one file."""
    write_good(tmp_path / "in")
    write_music(tmp_path / "in" / "poison.wav", 1.0, 77)
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and 'poison' in str(arguments[0]):\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.addaudithook(hook)\n"
    )
    old = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(hook), *filter(None, [old])])
    try:
        outcome = build(tmp_path / "in", tmp_path / "out", workers=1, max_failed=0.5)
    finally:
        if old is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = old
    assert dict(outcome.tally.results) == {"ok": 6, "failed": 1}
    ledger = read_table(tmp_path / "out", LEDGER, LEDGER_SCHEMA)
    (row,) = [r for r in ledger if r["status"] == "failed"]
    assert "SIGSEGV" in row["reason"]
    assert row["source"].endswith("poison.wav")
