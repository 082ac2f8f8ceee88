"""``jatsr upsample`` as a user meets it, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from upsamplings import dull, read, write

from jatsr_model.commands.upsample import upsample
from shards.errors import JatsrError

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


def test_kill_and_resume_gives_the_same_bytes(
    album: Path, whole: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = (album, out, "--model", model_folder, "--steps", 4)
    for done in (1, 3):  # killed twice, each time in the middle of a file
        with command(*options) as process:
            until(
                lambda: (
                    list(statuses(out).values()).count("ok") >= done  # noqa: B023
                    and "begun" in statuses(out).values()
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing_half_done(
    album: Path, whole: Path, model_folder: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "out"
    options = (album, out, "--model", model_folder, "--steps", 4)
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
    options = (tmp_path / "in", tmp_path / "out", "--model", model_folder, "--steps", 1)
    out, err = ran(*options, "--json", expect=1)
    result = json.loads(out)
    assert result["files"] == {"ok": 1, "passed-through": 0, "skipped": 0, "failed": 1}
    assert result["rows"][-1]["name"]
    assert "bad.wav" in err
    out, _ = ran(*options, expect=1)
    assert "1 ok, 1 failed; 1 of them by an earlier run" in out
    assert str(bad) in out


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
        (["IN", "s3://bucket/out", "--model", "identity"], "local files only"),
        (["https://x/y.wav", "OUT", "--model", "identity"], "local files only"),
        (["IN", "OUT", "--model", "nothing/here"], "should describe a network"),
        (["IN", "OUT", "--model", "MODEL", "--prompt", "piano"], "takes no text"),
        (["IN", "OUT", "--model", "MODEL", "--device", "tpu"], "--device tpu"),
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
    error = CliRunner().invoke(upsample, arguments).exception
    assert isinstance(error, JatsrError)
    assert message in error.message
    assert error.hint
    assert not list(tmp_path.rglob("*.flac"))
