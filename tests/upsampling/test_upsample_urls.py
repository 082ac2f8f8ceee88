"""Upsampling from and into object storage and from web servers: the bytes of local files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets import SECRET, ObjectStorage
from click.testing import CliRunner, Result
from upsample_runs import NotNeeded, ledger, outputs, plan_files, run
from upsamplings import dull, write

from pipeline.commands.upsample import upsample
from pipeline.engines.local import LocalEngine
from pipeline.upsample.ledger import LEDGER, ROWS
from shards import lease
from shards.errors import ConfigError
from shards.storage import Store, open_store


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files and one that is no audio; never written to by tests."""
    root = tmp_path_factory.mktemp("music")
    for number in range(3):
        write(root / f"söng {number % 2}/{number}.wav", dull(0.4, 16000, seed=number), 16000)
    (root / "notes.txt").write_text("nothing to hear")
    return root


@pytest.fixture
def there(music: Path, bucket: str) -> str:
    """The same files in a bucket."""
    open_store(bucket).put_tree(music, "my music")
    return f"{bucket}/my music"


def contents(rows_of: str | Path) -> dict[str, tuple[str, str]]:
    """What the ledger says of outputs."""
    return {n: (r["status"], r.get("out_sha256", "")) for n, r in ledger(rows_of).items()}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_from_bucket_to_bucket(
    there: str, bucket: str, alone: Path, model_folder: Path, workers: int
) -> None:
    engine = LocalEngine(workers) if workers else None
    outcome = run([there], f"{bucket}/out", model_folder, engine=engine)
    assert outcome.counts == {"ok": 3, "skipped": 1}
    assert outcome.kept == 0
    assert outputs(f"{bucket}/out") == outputs(alone)  # and nothing else is left
    assert contents(f"{bucket}/out") == contents(alone)
    assert run([there], f"{bucket}/out", model_folder, engine=NotNeeded()).kept == 3


def test_from_a_bucket_to_a_disk_and_back(
    music: Path, there: str, bucket: str, alone: Path, model_folder: Path, tmp_path: Path
) -> None:
    run([there], tmp_path, model_folder)
    run([music], f"{bucket}/out", model_folder)
    assert outputs(tmp_path) == outputs(f"{bucket}/out") == outputs(alone)


def test_what_is_done_is_not_asked_for_again(
    there: str, bucket: str, storage: ObjectStorage
) -> None:
    run([there], f"{bucket}/out")
    storage.proxy.requests.clear()
    run([there], f"{bucket}/out", engine=NotNeeded())
    asked = [r.path for r in storage.proxy.requests if r.method == "GET" and ".wav" in r.path]
    assert not [path for path in asked if "my" in path]


def test_objects_that_changed_are_done_again(there: str, bucket: str, tmp_path: Path) -> None:
    run([there], f"{bucket}/out")
    store = open_store(there)
    before = outputs(f"{bucket}/out")
    new = write(tmp_path / "x.wav", dull(0.2, 16000, seed=9), 16000)
    store.put(new, "söng 0/0.wav")
    open_store(f"{bucket}/out").remove(["söng 0/2.wav"])
    assert run([there], f"{bucket}/out").kept == 1
    after = outputs(f"{bucket}/out")
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {"söng 0/0.wav"}


def test_objects_that_are_not_ours_are_not_replaced(there: str, bucket: str) -> None:
    store = open_store(f"{bucket}/out")
    store.write("söng 0/0.wav", b"precious")
    assert run([there], store).counts["failed"] == 1
    assert store.read("söng 0/0.wav") == b"precious"
    assert run([there], store, overwrite=True).counts["failed"] == 0


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_that_was_killed_is_gone_on_with(
    there: str, bucket: str, alone: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:  # fmt: skip
    """Between the row of an output and its move; rows are objects of their own until the end."""
    from pipeline.upsample.folder import Folder

    moves, move = iter(range(9)), Folder.place

    def place(self: Folder, staged: str, target: str) -> None:
        if next(moves) == after:
            raise _Killed
        move(self, staged, target)

    store = open_store(f"{bucket}/out")
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "place", place)
        sweeps = iter([Folder._sweep])
        patch.setattr(Folder, "_sweep", lambda self: next(sweeps, lambda _: None)(self))
        with pytest.raises(_Killed):
            run([there], store, model_folder)
    assert store.stat(LEDGER) is None
    assert len(store.files(ROWS)) == after + 2  # those skipped have one
    assert len(store.files(".upsampling/new")) == 1
    assert run([there], store, model_folder).kept == after + 1
    assert outputs(store) == outputs(alone)
    assert contents(f"{bucket}/out") == contents(alone)


def test_names_of_objects_that_are_no_paths_fail_alone(there: str, bucket: str) -> None:
    data = open_store(there).read("söng 0/0.wav")
    open_store(there).write("a/../../evil.wav", data)
    outcome = run([there], f"{bucket}/out")
    assert outcome.counts == {"passed-through": 3, "skipped": 1, "failed": 1}
    assert [row["reason"] for row in outcome.rows if row["status"] == "failed"] == [
        "its name is no path"
    ]


def test_an_object_that_goes_away_fails_alone(
    there: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Going:
        def run(self, session: object, tasks: list[object]) -> Iterator[object]:
            open_store(there).remove(["söng 0/0.wav"])
            yield from LocalEngine(1).run(session, tasks)  # type: ignore[arg-type]

    outcome = run([there], f"{bucket}/out", engine=Going())
    assert outcome.counts == {"passed-through": 2, "skipped": 1, "failed": 1}


def test_a_bucket_that_cannot_be_written_to_ends_the_run(
    music: Path, bucket: str, storage: ObjectStorage
) -> None:
    storage.proxy.fail(
        "status", method="PUT", containing="out/.upsampling/new", status=403, times=99
    )
    with pytest.raises(ConfigError, match="access denied"):
        run([music], f"{bucket}/out")
    storage.proxy.reset()
    assert run([music], f"{bucket}/out").counts == {"passed-through": 3, "skipped": 1}


@pytest.fixture
def storage(object_storage: ObjectStorage) -> ObjectStorage:
    """Without faults, after ``bucket``."""
    return object_storage


def command(*arguments: object) -> Result:
    """Run it in this process."""
    text = [*map(str, arguments), "--model", "identity", "--engine", "inline"]
    return CliRunner().invoke(upsample, text)


def test_one_object_to_one_object(there: str, bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/deep/er/up.flac"
    options = (f"{there}/söng 0/0.wav", url)
    assert "1 passed-through" in command(*options).output
    assert open_store(f"{bucket}/deep").files().keys() == {"er/up.flac"}
    refused = command(*options).exception
    assert isinstance(refused, ConfigError)
    assert "exists already" in refused.message
    data = open_store(url).read("")
    assert command(*options, "--overwrite").exit_code == 0
    assert open_store(url).read("") == data
    with pytest.raises(ConfigError, match="no such file"):
        plan_files([f"{there}/none"], f"{bucket}/out")


def test_a_file_of_a_web_server(
    music: Path, object_storage: ObjectStorage, there: str, tmp_path: Path
) -> None:
    """With a user and a query, which may be secrets."""
    server = object_storage.proxy.url.replace("//", f"//me:{SECRET}@")
    address = there.replace("s3://", f"{server}/") + "/söng 0/0.wav"
    result = command(f"{address}?token={SECRET}", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["files"]["passed-through"] == 1
    assert (tmp_path / "out/0.flac").exists()
    assert SECRET not in result.output + (tmp_path / "out" / LEDGER).read_text()
    again = command(f"{address}?token={SECRET}", tmp_path / "out", "--json")
    assert json.loads(again.stdout)["kept"] == 1


def test_a_dry_run_writes_nothing(there: str, bucket: str) -> None:
    plan = json.loads(command(there, f"{bucket}/out", "--dry-run", "--json").stdout)
    assert plan["todo"][0]["target"] == f"{bucket}/out/söng 0/0.flac"
    assert not open_store(f"{bucket}/out").files()


def test_out_inside_in_is_not_searched(there: str) -> None:
    run([there], f"{there}/up")
    assert run([there], f"{there}/up", engine=NotNeeded()).kept == 3
    with pytest.raises(ConfigError, match="the input folder itself"):
        plan_files([there], there)


def test_two_runs_do_not_share_a_bucket(
    there: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    store: Store = open_store(f"{bucket}/out")
    with (
        store.lock(".upsampling.lock"),
        pytest.raises(ConfigError, match="is upsampling into s3://"),
    ):
        run([there], store)
    assert run([there], store).counts["passed-through"] == 3


@pytest.mark.slow
def test_kill_and_resume(
    bucket: str, object_storage: ObjectStorage, model_folder: Path, tmp_path: Path
) -> None:
    """A process of its own, killed when one of five files is done."""
    for number in range(5):
        write(tmp_path / f"in/{number}.wav", dull(2.0, 16000, seed=number), 16000)
    store = open_store(f"{bucket}/out")
    arguments = [str(tmp_path / "in"), store.url, "--model", str(model_folder), "--steps", "4",
                 "--format", "wav", "--json"]  # fmt: skip
    start = [sys.executable, "-c", "import cli; cli.main()", "upsample", *arguments]
    environment = {**os.environ, **object_storage.environment, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(start, env=environment, stdout=subprocess.PIPE) as process:
        while not [name for name in store.files() if name.endswith(".wav") and "/" not in name]:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(start, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stderr + done.stdout + store.read(LEDGER).decode()
    assert 1 <= json.loads(done.stdout)["kept"] < 5
    subprocess.run(
        [*start[:5], str(tmp_path / "whole"), *start[6:]], env=environment, check=True, timeout=150,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert outputs(store) == outputs(tmp_path / "whole")
