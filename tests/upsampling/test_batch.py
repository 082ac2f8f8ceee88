"""Folders in, mirrored folders out; what is done stays done, whatever ends a run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from upsamplings import dull, write

from jatsr_model.upsampling.batch import Batch, Outcome, Plan
from jatsr_model.upsampling.folder import locked
from jatsr_model.upsampling.formats import ending_of, names_a_file
from jatsr_model.upsampling.ledger import LEDGER, Ledger
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.output_format import output_format
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.rendering import Job
from jatsr_model.upsampling.settings import Settings
from jatsr_model.upsampling.sources import Planned, find_files
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import temporary_stem

QUICK = Settings(steps=1)
NO_AUDIO = b"\x00\x05\x16\x07 of macOS"  # whatever the name says


class Watching:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.total = self.done = 0.0

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, seconds: float) -> None:
        self.total = seconds

    def advance(self, seconds: float) -> None:
        self.done += seconds


def run(
    inputs: list[Path],
    out: Path,
    model: Model | None = None,
    *,
    settings: str = "s",
    overwrite: bool = False,
    ui: Watching | None = None,
    around: Callable[[Renderer], Any] = lambda renderer: renderer,
) -> Outcome:
    """A run into a folder of WAV files."""
    files = find_files([str(path) for path in inputs], out, ".wav")
    batch = Batch(files, Ledger(out), settings, overwrite=overwrite)

    def renderer() -> Any:
        return around(Renderer(model, QUICK, output_format(Path("x.wav"))))

    return batch.run(batch.plan(), renderer, ui or Watching())


def not_needed(_: Renderer) -> Any:
    raise AssertionError("there is nothing to do")


def ledger(out: Path) -> dict[str, dict[str, Any]]:
    """Rows by name; each name once."""
    rows = [json.loads(line) for line in (out / LEDGER).read_text().splitlines()]
    found = {row["name"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def outputs(out: Path) -> dict[str, bytes]:
    """Every file but the ledger."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != LEDGER
    }


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
    model: Model, album: Path, tmp_path: Path
) -> None:
    ui, out = Watching(), tmp_path / "out"
    outcome = run([album], out, model, ui=ui)
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


def test_running_again_does_nothing(model: Model, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (album / "empty.flac").unlink()
    run([album], out, model)
    before, rows = outputs(out), ledger(out)
    again = run([album], out, model, around=not_needed)
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
    assert run([album], out, around=not_needed).kept == 4


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
    books = Ledger(tmp_path)
    for statuses, ours in (
        (("failed",), False), (("skipped", "failed"), False), (("begun",), True),
        (("begun", "failed"), False), (("begun", "begun", "failed"), True),
        (("ok", "failed", "skipped", "begun", "failed"), True),
    ):  # fmt: skip
        name = " ".join(statuses)
        for status in statuses:
            books.add({"name": name, "status": status})
        assert (books.owns(name), Ledger(tmp_path).owns(name)) == (ours, ours), name


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


def test_leftovers_of_long_names_are_swept(tmp_path: Path) -> None:
    name = "ü" * 125 + "x.wav"
    write(tmp_path / "in/a.wav", dull(0.1, 8000), 8000).rename(tmp_path / "in" / name)
    left = tmp_path / "out" / f".{temporary_stem(name)}.abcdefgh.tmp"
    left.parent.mkdir()
    left.write_bytes(b"part")
    run([tmp_path / "in"], tmp_path / "out")
    assert outputs(tmp_path / "out").keys() == {name}


class Ending:
    """A renderer whose machine fails after some files."""

    def __init__(self, renderer: Renderer, after: int) -> None:
        self._renderer, self._after = renderer, after

    def run(self, jobs: Iterator[Job], advance: Any) -> Iterator[Any]:
        results = self._renderer.run(jobs, advance)
        for _ in range(self._after):
            yield next(results)
        next(results)  # its output is there, but nobody hears of it
        raise EnvironmentFailure("no space left")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_is_done_is_kept_when_a_run_ends_early(
    model: Model, album: Path, tmp_path: Path, after: int
) -> None:
    (album / "empty.flac").unlink()
    whole, out = tmp_path / "whole", tmp_path / "out"
    run([album], whole, model)
    with pytest.raises(EnvironmentFailure):
        run([album], out, model, around=lambda renderer: Ending(renderer, after))
    assert run([album], out, model).kept == after
    assert outputs(out) == outputs(whole)
    assert {n: r["status"] for n, r in ledger(out).items()} == {
        n: r["status"] for n, r in ledger(whole).items()
    }


def test_a_line_that_was_cut_off_is_passed_over(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([album], out)
    path = out / LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:30])
    lost = json.loads(lines[-1])["name"]
    again = Ledger(out)
    assert again.row(lost) == {}
    again.add({"name": "x", "status": "ok"})
    assert Ledger(out).row("x") == {"name": "x", "status": "ok"}
    assert Ledger(out).row(json.loads(lines[0])["name"]) == json.loads(lines[0])


def test_leftovers_of_a_killed_run_are_swept(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "süd & nord").mkdir(parents=True)
    ours = [out / ".one.wav.k3j2_x.tmp", out / "süd & nord" / ".full.wav.abcdefgh.tmp"]
    foreign = [out / ".other.wav.k3j2_x.tmp", out / "one.wav.tmp"]
    for path in ours + foreign:
        path.write_bytes(b"part")
    run([album], out)
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in foreign)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigError, match="upsampling into")
    with locked(tmp_path / "out"), refused, locked(tmp_path / "out"):
        pass
    with locked(tmp_path / "out"):
        pass
    assert not list((tmp_path / "out").iterdir())


def test_the_ledger_of_a_full_disk_stops_the_run(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / LEDGER).symlink_to("/dev/full")
    files = find_files([str(album)], out, ".wav")
    batch = Batch(files, Ledger(tmp_path / "none"), "s", overwrite=False)
    broken = Batch(files, Ledger.__new__(Ledger), "s", overwrite=False)
    broken._ledger._rows, broken._ledger._path = {}, out / LEDGER  # type: ignore[union-attr]
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        broken.run(batch.plan(), lambda: Renderer(None, QUICK, output_format(Path("x.wav"))),
                   Watching())  # fmt: skip


def _names(planned: list[Planned], out: Path) -> dict[str, str]:
    assert all(p.target == out / p.name for p in planned)
    return {str(p.source): p.name for p in planned}


def test_names_of_outputs(tmp_path: Path) -> None:
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    for path in (a / "x/one.wav", a / "x/one.mp3", a / "two.v1.flac", b / "one.wav"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF____WAVE")
    single = tmp_path / "three.ogg"
    single.write_bytes(b"OggS")
    assert _names(find_files([str(a)], out, ".flac"), out) == {
        str(a / "x/one.wav"): "x/one.wav.flac",
        str(a / "x/one.mp3"): "x/one.mp3.flac",
        str(a / "two.v1.flac"): "two.v1.flac",
    }
    several = _names(find_files([str(a), str(b), str(single)], out, ".wav"), out)
    assert sorted(several.values()) == ["a/two.v1.wav", "a/x/one.mp3.wav", "a/x/one.wav.wav",
                                        "b/one.wav", "three.wav"]  # fmt: skip
    assert len(find_files([str(a), str(a / "x/one.wav")], out, ".flac")) == 3  # each once


def test_outputs_are_not_inputs(album: Path) -> None:
    run([album], album / "up")
    inside = find_files([str(album)], album / "up", ".wav")
    assert not [p for p in inside if "up/" in p.name]
    with pytest.raises(ConfigError, match="the input folder itself"):
        find_files([str(album)], album, ".opus")
    with pytest.raises(ConfigError, match="would replace the input"):
        find_files([str(album / "one.wav")], album, ".wav")
    assert find_files([str(album / "one.wav")], album, ".opus")


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "same.wav", dull(0.1, 8000), 8000)
    pair = [str(tmp_path / name / "same.wav") for name in ("a", "b")]
    with pytest.raises(ConfigError, match="would both become"):
        find_files(pair, tmp_path / "out", ".wav")
    with pytest.raises(ConfigError, match="no such file"):
        find_files([str(tmp_path / "none")], tmp_path / "out", ".wav")
    with pytest.raises(ConfigError, match="local files only"):
        find_files(["s3://bucket/music"], tmp_path / "out", ".wav")


def test_links_that_loop_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "in/a.wav", dull(0.1, 8000), 8000)
    (tmp_path / "in/again").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.wav").symlink_to(tmp_path / "nowhere")
    found = find_files([str(tmp_path / "in")], tmp_path / "out", ".wav")
    assert [(p.name, bool(p.problem)) for p in found] == [("a.wav", False), ("gone.wav", True)]


def test_the_name_of_out_decides_the_format(tmp_path: Path) -> None:
    single = str(write(tmp_path / "a.wav", dull(0.1, 8000), 8000))
    assert names_a_file((single,), tmp_path / "b.OPUS")
    assert not names_a_file((single,), tmp_path / "b")
    (tmp_path / "folder.wav").mkdir()
    assert not names_a_file((single,), tmp_path / "folder.wav")
    with pytest.raises(ConfigError, match="named like a sound file"):
        names_a_file((single, single), tmp_path / "b.wav")
    assert ending_of(None, tmp_path / "out", is_file=False) == ".flac"
    assert ending_of("wav", tmp_path / "out", is_file=False) == ".wav"
    assert ending_of(None, tmp_path / "x.opus", is_file=True) == ".opus"
    assert ending_of("ogg", tmp_path / "x.oga", is_file=True) == ".oga"
    with pytest.raises(ConfigError, match="asks for another format"):
        ending_of("flac", tmp_path / "x.wav", is_file=True)


def test_a_plan_says_what_there_is(album: Path, tmp_path: Path) -> None:
    batch = Batch(find_files([str(album)], tmp_path / "out", ".wav"), None, "", overwrite=False)
    plan: Plan = batch.plan()
    assert [p.source.name for p in plan.todo] == [
        "empty.flac",
        "one.wav",
        "full.wav",
        "two three.wav",
    ]
    assert plan.seconds == pytest.approx(1.2)
    assert not (tmp_path / "out").exists()
