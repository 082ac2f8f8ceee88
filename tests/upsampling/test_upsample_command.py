"""``jatsr upsample`` as a user meets it, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from upsamplings import dull, read, write

from jatsr_model.upsampling.model import model_digest
from jatsr_model.upsampling.output_format import output_format
from jatsr_model.upsampling.settings import Settings
from pipeline.commands.upsample import upsample
from pipeline.commands.upsample_report import outcome_text
from pipeline.upsample.asked import Asked
from pipeline.upsample.batch import Outcome
from pipeline.upsample.upsampler import Upsampler
from shards.errors import EnvironmentFailure, JatsrError

LEDGER = "upsampled.jsonl"


def command(*arguments: object) -> subprocess.Popen[str]:
    """Start it."""
    return subprocess.Popen(
        [sys.executable, "-c", "import cli; cli.main()", "upsample", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def ran(*arguments: object, expect: int = 0) -> tuple[str, str]:
    """Run it to its end: standard output and error."""
    with command(*arguments) as process:
        out, err = process.communicate(timeout=150)
    assert process.returncode == expect, err
    assert "Traceback" not in err
    return out, err


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Wait for something that a process does."""
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.01)


def statuses(out: Path) -> dict[str, str]:
    """The last row of each name."""
    path = out / LEDGER
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {row["name"]: row["status"] for row in rows}


def files(out: Path) -> dict[str, bytes]:
    """Outputs."""
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.flac")}


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five files of some seconds; never written to by tests."""
    root = tmp_path_factory.mktemp("album")
    for number in range(5):
        write(root / f"{number % 2}" / f"{number}.wav", dull(3.0, 16000, seed=number), 16000)
    return root


@pytest.fixture(scope="module")
def whole(album: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What comes of it without interruption."""
    out = tmp_path_factory.mktemp("whole") / "out"
    ran(album, out, "--model", model_folder, "--steps", 4)
    return out


def in_the_making(out: Path) -> list[Path]:
    """Outputs that somebody is writing."""
    return list(out.glob(".upsampling/new/.*.tmp"))


@pytest.mark.parametrize("engine", ["inline", pytest.param("local", marks=pytest.mark.slow)])
def test_kill_and_resume_gives_the_same_bytes(
    album: Path, whole: Path, model_folder: Path, tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "out"
    options = (album, out, "--model", model_folder, "--steps", 4, "--engine", engine)
    for done in (1, 3):  # killed twice, each time in the middle of a file
        with command(*options) as process:
            until(
                lambda: (
                    list(statuses(out).values()).count("ok") >= done  # noqa: B023
                    and in_the_making(out)
                ),
                process,
            )
            process.kill()
        assert process.returncode == -signal.SIGKILL
    kept = list(statuses(out).values()).count("ok")
    assert 3 <= kept < 5
    result = json.loads(ran(*options, "--json")[0])
    assert result["kept"] == kept
    assert files(out) == files(whole)
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize(
    ("number", "code", "engine"),
    [(signal.SIGINT, 130, "local"), (signal.SIGTERM, 143, "inline")],
)
def test_an_interrupt_leaves_nothing_half_done(
    album: Path, whole: Path, model_folder: Path, tmp_path: Path, number: int, code: int,
    engine: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    options = (album, out, "--model", model_folder, "--steps", 4, "--engine", engine)
    with command(*options) as process:
        until(lambda: "ok" in statuses(out).values(), process)
        process.send_signal(number)
        printed, err = process.communicate(timeout=60)
    assert (process.returncode, printed) == (code, "")
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert not list(out.rglob(".*"))  # no part of a file, no lock
    assert files(out).items() <= files(whole).items()


def test_one_file_to_one_file(album: Path, tmp_path: Path) -> None:
    source, target = album / "0/0.wav", tmp_path / "up.wav"
    out, _ = ran(source, target, "--model", "identity", "--bits", "16", "--rate", 48000)
    assert "1 passed-through" in out
    assert (read(target)[0].shape, read(target)[1]) == ((2, 144_000), 48000)
    assert [p.name for p in tmp_path.iterdir()] == ["up.wav"]  # no ledger
    _, err = ran(source, target, "--model", "identity", expect=1)
    assert "--overwrite" in err
    ran(source, target, "--model", "identity", "--overwrite")
    assert read(target)[1] == 44100


def test_results_go_to_stdout_and_all_else_to_stderr(
    album: Path, model_folder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "in/bad.wav"
    write(tmp_path / "in/good.wav", dull(0.4, 8000), 8000)
    bad.write_bytes(b"RIFF\0\0\0\0WAVEjunk")
    options = (tmp_path / "in", tmp_path / "out", "--model", model_folder, "--steps", 1,
               "--engine", "inline")  # fmt: skip
    out, err = ran(*options, "--json", expect=1)
    result = json.loads(out)
    assert result["files"] == {"ok": 1, "passed-through": 0, "skipped": 0, "failed": 1}
    assert result["rows"][-1]["name"]
    assert "bad.wav" in err
    out, _ = ran(*options, expect=1)
    assert "1 ok, 1 failed; 1 of them by an earlier run" in out
    assert str(bad) in out


def asked(*arguments: object) -> Asked:
    """What is made of a command line."""
    params = upsample.make_context("upsample", [str(text) for text in arguments]).params
    return Asked.of(params.pop("inputs"), params.pop("out"), params)


def test_precision_counts_and_the_device_does_not(
    album: Path, model_folder: Path, tmp_path: Path
) -> None:
    plain = asked(album, tmp_path, "--model", model_folder)
    fixed = asked(album, tmp_path, "--model", model_folder, "--precision", "fp32")
    assert plain.digest("cpu") == fixed.digest("cpu") == fixed.digest("cuda:0")
    assert plain.digest("cuda:0") != plain.digest("cpu")
    none = asked(album, tmp_path, "--model", "identity")
    assert none.digest("cuda:0") == none.digest("cpu") != plain.digest("cpu")
    assert none.engine.device == "cpu"


def test_workers_expect_the_weights_of_the_ledger(model_folder: Path) -> None:
    how = Upsampler(model=model_folder, settings=Settings(), form=output_format(Path("x.wav")))
    assert replace(how, weights=model_digest(model_folder)).renderer()
    with pytest.raises(EnvironmentFailure, match="expected the weights"):
        replace(how, weights="0" * 64).renderer()


@pytest.mark.parametrize(("share", "code"), [("0.4", 1), ("0.5", 0), ("1", 0)])
def test_a_share_of_files_may_fail(tmp_path: Path, share: str, code: int) -> None:
    write(tmp_path / "in/good.wav", dull(0.1, 8000), 8000)
    (tmp_path / "in/bad.wav").write_bytes(b"RIFF0000WAVEjunk")
    (tmp_path / "in/notes.txt").write_text("which count for nothing")
    options = ["--model=identity", "--engine=inline", "--max-failed", share]
    result = CliRunner().invoke(upsample, [str(tmp_path / "in"), str(tmp_path / "out"), *options])
    assert result.exit_code == code
    assert "1 passed-through, 1 skipped, 1 failed" in result.output


def test_an_input_is_not_its_own_output(album: Path, tmp_path: Path) -> None:
    song = write(tmp_path / "a.wav", dull(0.1, 8000), 8000)
    options = [str(song), str(song), "--model=identity", "--overwrite"]
    error = CliRunner().invoke(upsample, options).exception
    assert isinstance(error, JatsrError)
    assert "would replace the input" in error.message


def test_what_went_not_quite_as_wished_is_said(tmp_path: Path) -> None:
    for number in range(7):
        signal = dull(0.2, 8000, seed=number)
        write(tmp_path / f"in/{number}.wav", signal * (1.2 + number / 9) / abs(signal).max(), 8000)
    options = [str(tmp_path / "in"), str(tmp_path / "out"), "--model=identity", "--engine=inline"]
    lines = CliRunner().invoke(upsample, options).output.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("peaks ")]
    assert "lowered in 7 files, by" in lines[at]
    books = [json.loads(line) for line in (tmp_path / "out" / LEDGER).read_text().splitlines()]
    worst = sorted(books, key=lambda row: row["limited_db"])[:5]
    assert lines[at + 1 : at + 6] == [f"  {row['name']}" for row in worst]
    assert lines[at + 6] == "  and 2 more: see upsampled.jsonl"
    rows = [{"name": name, "status": "ok", "note": "tags do not fit"} for name in ("a", "b")]
    text = outcome_text(Outcome(rows=rows), "out", 1.0)
    assert text.splitlines()[-3:] == ["note       2 x tags do not fit", "  a", "  b"]


def test_a_name_that_is_too_long_is_said_in_words(album: Path, tmp_path: Path) -> None:
    target = tmp_path / f"{'x' * 252}.wav"
    result = CliRunner().invoke(upsample, [str(album / "0/0.wav"), str(target), "--model=identity"])
    assert result.exit_code == 1
    assert "the name is too long" in result.output
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(album: Path, tmp_path: Path) -> None:
    options = (album, tmp_path / "out", "--model", "identity", "--dry-run")
    assert "5 files, about 15.0 s of audio" in ran(*options)[0]
    plan = json.loads(ran(*options, "--json")[0])
    assert [Path(item["target"]).name for item in plan["todo"]][:2] == ["0.flac", "2.flac"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["IN", "https://x/out", "--model", "identity"], "cannot be written to"),
        (["IN", "ftp://x/out", "--model", "identity"], "ftp:// is not supported"),
        (
            ["IN", "OUT", "--model", "identity", "--engine", "ray", "--ray-address", "x"],
            "expected auto or HOST:PORT",
        ),
        (["IN", "OUT", "--model", "nothing/here"], "expected a folder with"),
        (["IN", "OUT", "--model", "MODEL", "--prompt", "piano"], "takes no text"),
        (["IN", "OUT", "--model", "MODEL", "--device", "tpu"], "--device tpu"),
        (
            ["IN", "OUT", "--model", "MODEL", "--device", "cuda:1", "--engine", "ray"],
            "--device cuda:1: a cluster",
        ),
        (["IN", "OUT", "--model", "MODEL", "--window-frames", "8"], "too short"),
        (["IN", "OUT", "--model", "identity", "--bits", "float"], "FLAC holds integers"),
        (
            ["IN", "OUT", "--model", "identity", "--format", "ogg", "--rate", "384000"],
            ".ogg files have up to 192000 Hz",
        ),
        (["IN", "OUT.ogg", "--model", "identity"], "named like a sound file"),
        (["NONE", "OUT", "--model", "identity"], "no such file"),
        (["IN", "IN", "--model", "identity"], "input folder itself"),
    ],
)
def test_what_cannot_work_is_said_in_words(
    album: Path, model_folder: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    places = {"IN": album, "OUT": tmp_path / "out", "MODEL": model_folder,
              "OUT.ogg": tmp_path / "out.ogg", "NONE": tmp_path / "none"}  # fmt: skip
    arguments = [str(places.get(option, option)) for option in options]
    arguments += [] if "--engine" in options else ["--engine", "inline"]
    error = CliRunner().invoke(upsample, arguments).exception
    assert isinstance(error, JatsrError)
    assert message in error.message
    assert error.hint
    assert not list(tmp_path.rglob("*.flac"))
