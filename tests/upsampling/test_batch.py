"""Folders in, mirrored folders out; what is done stays done, whatever ends a run."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from upsample_runs import NotNeeded, Watching, ledger, outputs, plan_files, run
from upsamplings import dull, write

from jatsr_model.upsampling.settings import Settings
from pipeline.engines.base import Progress
from pipeline.engines.inline import InlineEngine
from pipeline.upsample.folder import Folder, stem_of
from pipeline.upsample.formats import ending_of, names_a_file
from pipeline.upsample.ledger import LEDGER, Ledger
from pipeline.upsample.names import Planned, name_outputs
from pipeline.upsample.plan import Plan, Work
from pipeline.upsample.sources import find_files
from shards.errors import ConfigError, EnvironmentFailure
from shards.storage import LocalStore, open_store

NO_AUDIO = b"\x00\x05\x16\x07 of macOS"  # whatever the name says


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three files in two folders, one of them of full bandwidth, and three that are not audio."""
    root = tmp_path / "album"
    write(root / "one.wav", dull(0.4, 16000), 16000)
    write(root / "süd & nord" / "two three.wav", dull(0.3, 22050, 1), 22050)
    write(root / "süd & nord" / "full.wav", dull(0.5, 44100), 44100)
    (root / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0 a picture")
    (root / "notes.txt").write_text("nothing to hear")
    (root / "one.txt").write_text("words of one.wav, which keeps its name")
    (root / "empty.flac").write_bytes(b"")
    return root


def test_a_folder_is_mirrored_and_every_file_has_a_row(
    model_folder: Path, album: Path, tmp_path: Path
) -> None:
    ui, out = Watching(), tmp_path / "out"
    outcome = run([album], out, model_folder, ui=ui)
    assert outputs(out).keys() == {"one.wav", "süd & nord/two three.wav", "süd & nord/full.wav"}
    rows = ledger(out)
    assert {name: row["status"] for name, row in rows.items()} == {
        "one.wav": "ok",
        "süd & nord/two three.wav": "ok",
        "süd & nord/full.wav": "passed-through",
        "cover.jpg": "skipped",
        "notes.txt": "skipped",
        "one.txt": "skipped",
        "empty.wav": "failed",
    }
    assert rows["notes.txt"]["reason"] == "not audio: text"
    assert "empty file" in rows["empty.wav"]["reason"]
    assert "full bandwidth" in rows["süd & nord/full.wav"]["reason"]
    assert outcome.counts == {"ok": 2, "passed-through": 1, "skipped": 3, "failed": 1}
    assert [note for note in ui.notes if "empty.flac" in note]
    assert ui.done == pytest.approx(1.2)
    assert ui.total == pytest.approx(1.2)
    assert outcome.seconds == pytest.approx(1.2, abs=0.01)


def test_running_again_does_nothing(model_folder: Path, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (album / "empty.flac").unlink()
    run([album], out, model_folder)
    before, rows = outputs(out), ledger(out)
    again = run([album], out, model_folder, engine=NotNeeded())
    assert (again.kept, outputs(out), ledger(out)) == (3, before, rows)


def test_what_changed_is_done_again_and_nothing_else(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([album], out)
    before = outputs(out)
    write(album / "one.wav", dull(0.2, 16000, seed=7), 16000)  # another content
    os.utime(album / "süd & nord/full.wav")  # the same one with another date
    (out / "süd & nord/two three.wav").unlink()  # the output is gone
    write(album / "new.wav", dull(0.2, 16000), 16000)
    again = run([album], out)
    assert again.kept == 1
    after = outputs(out)
    assert after.keys() == before.keys() | {"new.wav"}
    assert {name for name in before if after[name] != before[name]} == {"one.wav"}
    # by date alone from now on
    (album / "empty.flac").unlink()
    assert run([album], out, engine=NotNeeded()).kept == 4


def test_other_settings_do_everything_again(album: Path, tmp_path: Path) -> None:
    run([album], tmp_path / "out")
    assert run([album], tmp_path / "out", settings="other").kept == 0
    assert run([album], tmp_path / "out", settings="other").kept == 3


def test_settings_are_told_apart_by_all_that_counts() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"steps": 4}, {"solver": "heun"}, {"grid": "linear-quadratic"}, {"guidance": 2.0},
        {"target_hz": 9000.0}, {"prompt": "x"}, {"seed": 1}, {"window_frames": 99},
        {"rate": 48000},
    ]  # fmt: skip
    digests = {Settings(**change).digest("model") for change in changes}
    assert len(digests) == len(changes)
    assert Settings(batch_size=8).digest("model") == Settings().digest("model")
    assert Settings().digest("other") != Settings().digest("model")


def test_files_that_are_not_ours_are_not_replaced(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.wav").write_bytes(b"precious")
    outcome = run([album], out)
    row = ledger(out)["one.wav"]
    assert (row["status"], (out / "one.wav").read_bytes()) == ("failed", b"precious")
    assert "--overwrite" in row["hint"]
    assert outcome.counts["passed-through"] == 2
    run([album], out, overwrite=True)
    assert ledger(out)["one.wav"]["status"] == "passed-through"


def test_an_output_stays_ours_while_its_source_is_damaged(album: Path, tmp_path: Path) -> None:
    source, out = album / "one.wav", tmp_path / "out"
    run([album], out)
    for damaged in (b"", b"RIFF____WAVEjunk", NO_AUDIO):
        source.write_bytes(damaged)
        for _ in range(2):
            run([album], out)
            assert ledger(out)["one.wav"]["status"] in ("failed", "skipped")
    write(source, dull(0.2, 16000, seed=7), 16000)
    run([album], out)
    assert ledger(out)["one.wav"]["status"] == "passed-through"
    assert (out / "one.wav").stat().st_size == ledger(out)["one.wav"]["out_bytes"]


def test_a_row_that_was_refused_owns_nothing(tmp_path: Path) -> None:
    books = Ledger(open_store(tmp_path))
    for statuses, ours in (
        (("failed",), False), (("skipped", "failed"), False), (("ok",), True),
        (("ok", "failed", "skipped", "failed"), True), (("failed", "passed-through"), True),
    ):  # fmt: skip
        name = " ".join(statuses)
        for status in statuses:
            books.add([{"name": name, "status": status, "input": "in"}])
        for known in (books, Ledger(open_store(tmp_path))):
            assert (known.owns(name), known.owner(name)) == (ours, "in" if ours else None), name


def test_what_is_no_audio_does_not_take_the_row_of_an_output(tmp_path: Path) -> None:
    album, out = tmp_path / "in", tmp_path / "out"
    write(album / "one.flac", dull(0.2, 16000), 16000, "PCM_16")
    (album / "one.wav").write_bytes(NO_AUDIO)
    for kept in (0, 1, 1):
        outcome = run([album], out)
        assert outcome.kept == kept
        assert outcome.counts == {"passed-through": 1, "skipped": 1}
        assert ledger(out)["one.wav"]["status"] == "passed-through"


def test_overwrite_does_everything_again(album: Path, tmp_path: Path) -> None:
    run([album], tmp_path / "out")
    again = run([album], tmp_path / "out", overwrite=True)
    assert (again.kept, again.counts["passed-through"]) == (0, 3)


def test_a_name_that_is_too_long_fails_alone(tmp_path: Path) -> None:
    album, out = tmp_path / "in", tmp_path / "out"
    write(album / "a.wav", dull(0.1, 8000), 8000)
    write(album / "b.wav", dull(0.1, 8000), 8000)
    (album / ("x" * 255)).write_bytes((album / "a.wav").read_bytes())  # with an ending: 259
    outcome = run([album], out)
    assert outcome.counts == {"passed-through": 2, "failed": 1}
    assert "too long" in next(r["reason"] for r in outcome.rows if r["status"] == "failed")
    assert outputs(out).keys() == {"a.wav", "b.wav"}


def test_an_output_in_the_making_has_a_short_name(tmp_path: Path) -> None:
    name = "ü" * 125 + "x.wav"  # not one letter more
    write(tmp_path / "in/a.wav", dull(0.1, 8000), 8000).rename(tmp_path / "in" / name)
    run([tmp_path / "in"], tmp_path / "out")
    assert outputs(tmp_path / "out").keys() == {name}


class Ending:
    """An engine whose machine fails after some files."""

    def __init__(self, after: int) -> None:
        self._after = after

    def run(self, session: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        events = (e for e in InlineEngine().run(session, tasks) if not isinstance(e, Progress))
        for _ in range(self._after):
            yield next(events)
        next(events)  # its output is there, but nobody hears of it
        raise EnvironmentFailure("no space left")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_is_done_is_kept_when_a_run_ends_early(
    model_folder: Path, album: Path, tmp_path: Path, after: int
) -> None:
    (album / "empty.flac").unlink()
    whole, out = tmp_path / "whole", tmp_path / "out"
    run([album], whole, model_folder)
    with pytest.raises(EnvironmentFailure):
        run([album], out, model_folder, engine=Ending(after))
    assert run([album], out, model_folder).kept == after
    assert outputs(out) == outputs(whole)
    assert {n: r["status"] for n, r in ledger(out).items()} == {
        n: r["status"] for n, r in ledger(whole).items()
    }


@pytest.mark.parametrize("killed", [0, 1])
def test_what_the_ledger_has_is_moved_after_a_kill(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    """A kill between the row and the move, of a file that takes the place of an older one."""

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    (album / "empty.flac").unlink()
    whole, out = tmp_path / "whole", tmp_path / "out"
    run([album], out)
    old = outputs(out)
    write(album / "one.wav", dull(0.4, 16000, seed=9), 16000)  # of the same length
    run([album], whole)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "place", kill)
        sweeps = iter([Folder._sweep])  # at the beginning; the end never comes
        patch.setattr(Folder, "_sweep", lambda self: next(sweeps, lambda _: None)(self))
        with pytest.raises(Killed):
            run([album], out)
    (staged,) = (out / ".upsampling/new").iterdir()
    assert staged.name.startswith(stem_of("one.wav"))
    if killed:  # later, with another file in the making
        staged.with_name(f"{stem_of('süd & nord/full.wav')}-x.wav").write_bytes(b"part")
        staged.with_name(f".{staged.name}.abcdefgh.tmp").write_bytes(b"part")
    assert {n: d for n, d in outputs(out).items() if ".upsampling/" not in n} == old
    run([album], out, engine=NotNeeded())
    assert outputs(out) == outputs(whole)


def test_a_line_that_was_cut_off_is_passed_over(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([album], out)
    path = out / LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:30])
    lost = json.loads(lines[-1])["name"]
    again = Ledger(open_store(out))
    assert again.row(lost) == {}
    again.add([{"name": "x", "status": "ok"}])
    assert Ledger(open_store(out)).row("x") == {"name": "x", "status": "ok"}
    assert Ledger(open_store(out)).row(json.loads(lines[0])["name"]) == json.loads(lines[0])


def test_leftovers_of_a_killed_run_are_swept(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".upsampling/new").mkdir(parents=True)
    ours = [out / ".upsampling/new" / name for name in ("x.wav", ".x.wav.k3j2_x.tmp")]
    foreign = [out / ".other.wav.k3j2_x.tmp", out / "one.wav.tmp"]
    for path in ours + foreign:
        path.write_bytes(b"part")
    run([album], out)
    assert not (out / ".upsampling").exists()
    assert all(path.exists() for path in foreign)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    for single in ("", "a.wav"):
        folder, same = (Folder(open_store(tmp_path / "out"), single) for _ in range(2))
        with folder.locked(), folder.staging():
            with pytest.raises(ConfigError, match="upsampling into"), same.locked():
                pass
            with Folder(folder.store, "b.wav").locked():  # another file beside it
                pass
        with same.locked():
            pass
        assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_leads_to_another_disk(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(LocalStore, "move", refuse)
    run([album], tmp_path / "out")
    assert len(outputs(tmp_path / "out")) == 3


def test_a_folder_in_the_way_of_an_output_stops_the_run(album: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/süd & nord").write_bytes(b"a file where a folder should be")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        run([album], tmp_path / "out")


def test_the_ledger_of_a_full_disk_stops_the_run(album: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / LEDGER).symlink_to("/dev/full")
    books = Ledger(open_store(tmp_path / "none"))
    books._store = open_store(tmp_path / "full")
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        books.add([{"name": "x", "status": "ok"}])


def _names(planned: list[Planned]) -> dict[str, str]:
    return {item.source: item.name for item in planned}


def test_names_of_outputs(tmp_path: Path) -> None:
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    for path in (a / "x/one.wav", a / "x/one.mp3", a / "two.v1.flac", b / "one.wav"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF____WAVE")
    single = tmp_path / "three.ogg"
    single.write_bytes(b"OggS")
    assert _names(plan_files([a], out, ".flac")) == {
        str(a / "x/one.wav"): "x/one.wav.flac",
        str(a / "x/one.mp3"): "x/one.mp3.flac",
        str(a / "two.v1.flac"): "two.v1.flac",
    }
    several = _names(plan_files([a, b, single], out))
    assert sorted(several.values()) == ["a/two.v1.wav", "a/x/one.mp3.wav", "a/x/one.wav.wav",
                                        "b/one.wav", "three.wav"]  # fmt: skip
    assert len(plan_files([a, a / "x/one.wav"], out)) == 3  # each once


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    """Whatever comes to lie beside an input, or goes away."""
    album, out = tmp_path / "in", tmp_path / "out"
    wav, flac = album / "a.wav", album / "a.flac"
    write(wav, dull(0.1, 8000), 8000)
    run([album], out)
    first = (out / "a.wav").read_bytes()
    write(flac, dull(0.1, 8000, seed=1), 8000, "PCM_16")
    for _ in range(2):
        assert run([album], out).counts == {"passed-through": 2}
        assert outputs(out).keys() == {"a.wav", "a.flac.wav"}
        assert (out / "a.wav").read_bytes() == first
    wav.unlink()
    assert run([album], out, engine=NotNeeded()).kept == 1  # a.flac.wav does not become a.wav
    write(wav, dull(0.1, 8000), 8000)
    assert _names(plan_files([album], out)) == {str(wav): "a.wav", str(flac): "a.flac.wav"}
    flac.unlink()
    wav.rename(album / "a.aiff")  # what has gone leaves its name to whoever comes
    assert _names(plan_files([album], out)) == {str(album / "a.aiff"): "a.wav"}


def test_outputs_are_not_inputs(album: Path) -> None:
    run([album], album / "up")
    assert not [p for p in plan_files([album], album / "up") if "up/" in p.name]
    with pytest.raises(ConfigError, match="the input folder itself"):
        plan_files([album], album, ".opus")
    with pytest.raises(ConfigError, match="would replace the input"):
        plan_files([album / "one.wav"], album)
    assert plan_files([album / "one.wav"], album, ".opus")


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "same.wav", dull(0.1, 8000), 8000)
    with pytest.raises(ConfigError, match="would both become"):
        plan_files([tmp_path / name / "same.wav" for name in ("a", "b")], tmp_path / "out")
    with pytest.raises(ConfigError, match="no such file"):
        plan_files([tmp_path / "none"], tmp_path / "out")


def test_links_that_loop_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "in/a.wav", dull(0.1, 8000), 8000)
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.wav").symlink_to(tmp_path / "nowhere")
    found = plan_files([tmp_path / "in"], tmp_path / "out")
    assert [(p.name, bool(p.problem)) for p in found] == [("a.wav", False), ("gone.wav", True)]


def test_the_name_of_out_decides_the_format(tmp_path: Path) -> None:
    single = str(write(tmp_path / "a.wav", dull(0.1, 8000), 8000))
    out = open_store(tmp_path)
    assert names_a_file([single], out.child("b.OPUS"))
    assert not names_a_file([single], out.child("b"))
    (tmp_path / "folder.wav").mkdir()
    assert not names_a_file([single], out.child("folder.wav"))
    with pytest.raises(ConfigError, match="named like a sound file"):
        names_a_file([single, single], out.child("b.wav"))
    assert ending_of(None, out, is_file=False) == ".flac"
    assert ending_of("wav", out, is_file=False) == ".wav"
    assert ending_of(None, out.child("x.opus"), is_file=True) == ".opus"
    assert ending_of("ogg", out.child("x.oga"), is_file=True) == ".oga"
    with pytest.raises(ConfigError, match="asks for another format"):
        ending_of("flac", out.child("x.wav"), is_file=True)


def test_a_plan_says_what_there_is(album: Path, tmp_path: Path) -> None:
    out = open_store(tmp_path / "out")
    files = name_outputs(find_files([str(album)], out), out, ".wav")
    plan: Plan = Work(files, Folder(out), None, "", overwrite=False).plan()
    assert [Path(p.source).name for p in plan.todo] == [
        "empty.flac",
        "one.wav",
        "full.wav",
        "two three.wav",
    ]
    assert sorted(item.name for item, _ in plan.other) == ["cover.jpg", "notes.txt", "one.txt"]
    assert plan.seconds == pytest.approx(1.2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("limit", "tried"), [(20, 20), (1000, 25)])
def test_twenty_failures_in_a_row_end_a_run(tmp_path: Path, limit: int, tried: int) -> None:
    """And running it again gets past them."""
    for number in range(25):
        (tmp_path / f"in/{number:02}.wav").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{number:02}.wav").write_bytes(b"RIFF____WAVEjunk")
    write(tmp_path / "in/99.wav", dull(0.1, 8000), 8000)
    inputs, out = [tmp_path / "in"], tmp_path / "out"
    if tried < 25:
        with pytest.raises(EnvironmentFailure, match="20 tracks in a row failed"):
            run(inputs, out, limit=limit)
        lines = [json.loads(line) for line in (out / LEDGER).read_text().splitlines()]
        assert len([row for row in lines if row["status"] == "failed"]) == tried
    assert run(inputs, out, limit=limit).counts == {"failed": 25, "passed-through": 1}
