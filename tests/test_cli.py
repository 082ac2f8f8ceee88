"""The command as a user types it: exit codes, messages, signals, speed of --help."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from helpers import shard_bytes, write_music

import cli

COMMAND = [sys.executable, "-c", "import cli; cli.main()"]


def jatsr(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=150, **options
    )


@pytest.fixture
def jatsr_here(capsys, monkeypatch):
    """The same in this process, which has imported everything already."""
    sigterm = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["jatsr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, ended.value.code or 0, said.out, said.err)

    yield run
    signal.signal(signal.SIGTERM, sigterm)


@pytest.fixture(scope="module")
def dataset(album, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "out"
    done = jatsr("build", album, out, "--workers", "1", "--excerpt-seconds", "3")
    assert done.returncode == 0, done.stderr
    assert "9 ok" in done.stdout
    return out


def test_help_is_quick_and_lists_the_verbs():
    jatsr("--help")
    began = time.perf_counter()
    done = jatsr("--help")
    assert time.perf_counter() - began < 1.5  # 0.5 s on a quiet machine; see benchmarks/
    for verb in ("build", "verify", "info", "preview", "codec", "doctor"):
        assert verb in done.stdout
    loaded = subprocess.run(
        [sys.executable, "-c", "import cli, sys; print(sorted(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for heavy in ("numpy", "torch", "ray", "scipy", "pyarrow", "zarr", "transformers"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize("verb", cli.COMMANDS)
def test_every_verb_has_help(jatsr_here, verb):
    done = jatsr_here(verb, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_a_second_build_says_that_there_is_nothing_to_do(album, dataset):
    done = jatsr("build", album, dataset, "--excerpt-seconds", "3")
    assert done.returncode == 0
    assert "nothing to do" in done.stdout


def test_info_verify_and_their_json(jatsr_here, dataset):
    facts = json.loads(jatsr_here("info", dataset, "--json").stdout)
    assert sum(split["tracks"] for split in facts["splits"].values()) == 9
    text = jatsr_here("info", dataset).stdout
    assert "mdct" in text
    assert "sinc:16000" in text
    done = jatsr("verify", dataset, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["problems"] == []


def test_verify_finds_a_flipped_bit_and_exits_with_1(jatsr_here, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "out")
    shard = next((tmp_path / "out" / "train").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    done = jatsr_here("verify", tmp_path / "out")
    assert done.returncode == 1
    assert shard.name in done.stderr
    assert "sha256" in done.stderr


def test_dry_run_prints_the_plan_and_writes_nothing(jatsr_here, album, tmp_path):
    done = jatsr_here("build", album, tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "9 tracks" in done.stdout
    assert not (tmp_path / "out").exists()
    plan = json.loads(jatsr_here("build", album, tmp_path / "out", "--dry-run", "--json").stdout)
    assert plan["tracks"] == 9
    assert plan["seconds"] > 0


def test_errors_name_the_flag_and_exit_with_1_or_2(jatsr_here, album, tmp_path):
    done = jatsr_here("build", album, tmp_path / "out", "--lr", "sinc:fast")
    assert (done.returncode, "--lr" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    assert jatsr_here("build", album).returncode == 2
    assert jatsr_here("build", tmp_path / "none", tmp_path / "out").returncode == 1
    assert jatsr_here("info", tmp_path).returncode == 1
    assert jatsr_here("verify", tmp_path).returncode == 1


def test_a_failing_build_never_exits_with_0(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.wav").write_bytes(b"dear diary")
    done = jatsr("build", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 1
    assert "--max-failed" in done.stderr


def test_json_logs_are_json_and_the_result_too(jatsr_here, album, tmp_path):
    done = jatsr_here("build", album, tmp_path / "out", "--json-logs", "--json", "--workers", "0")
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [e["phase"] for e in events if e["event"] == "start"] == [
        "scan", "build", "assemble", "publish",
    ]  # fmt: skip
    assert json.loads(done.stdout)["files"] == {"ok": 9}


SIGNAL_OPTIONS = ("--lr", "sinc:16000", "--captions", "none", "--workers")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A folder of music, and the shards of a build of it that was left alone."""
    root = tmp_path_factory.mktemp("signals")
    for index in range(10):
        write_music(root / "in" / f"{index}.wav", 6.0, index)
    done = jatsr("build", root / "in", root / "whole", *SIGNAL_OPTIONS, 0)
    assert done.returncode == 0, done.stderr
    return root / "in", shard_bytes(root / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_leave_a_build_that_continues_to_the_same_bytes(uninterrupted, tmp_path, blow):
    music, expected = uninterrupted
    out = tmp_path / "out"
    with subprocess.Popen(
        [*COMMAND, "build", str(music), str(out), *SIGNAL_OPTIONS, "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        while not list(out.glob(".jatsr/*/parts/*/*.json")):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(blow)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if blow == signal.SIGKILL else 130)
    if blow != signal.SIGKILL:
        assert "same command again" in err
        assert "Traceback" not in err
    assert not (out / "dataset.json").exists()
    done = jatsr("build", music, out, *SIGNAL_OPTIONS, 0)
    assert done.returncode == 0, done.stderr
    assert "continuing" in done.stderr
    assert shard_bytes(out) == expected
    assert ".jatsr" not in os.listdir(out)


def test_doctor_tries_things(tmp_path):
    done = jatsr("doctor", "--json")
    assert done.returncode == 0, done.stdout
    findings = {f["name"]: f for f in json.loads(done.stdout)}
    assert findings["FLAC"]["state"] == "ok"
    assert findings["local"]["state"] == "ok"
    assert findings["mdct"]["state"] == "ok"
