"""`jatsr train` as users meet it: killed, stopped, started twice, told what cannot be."""

from __future__ import annotations

import errno
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import datasets
import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter
from train_processes import (
    at,
    children,
    ended,
    expect_gone,
    reach,
    resumed,
    running,
    small,
    trained,
)
from trainings import expect_same, log, saved

import cli
from jatsr_model.model_folder import read_card
from jatsr_model.training import begin
from jatsr_model.training.checkpoints import newest_intact, steps
from jatsr_model.training.run_folder import RunFile, read_run
from jatsr_model.training.settings import Recipe, Runtime
from jatsr_model.training.world import World
from shards.errors import ConfigError

Tensors = Mapping[str, torch.Tensor]


LITTLE_MEMORY = """
import cli, psutil
from jatsr_model.training.trainer import Trainer
def limited(trainer, run=Trainer.run):
    process = psutil.Process()
    most = process.memory_info().vms + 300_000_000
    process.rlimit(psutil.RLIMIT_AS, (most, most))
    return run(trainer)
Trainer.run = limited
cli.main()
"""


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def jatsr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """``jatsr train`` in this process: for what ends soon."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["jatsr", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Said(int(caught.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def whole(
    dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Tensors]]:
    """What 100 steps give that nobody interrupts; they are taken while other tests run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with running(*small(dataset, folder, steps=100)) as process:

        @cache
        def tensors() -> Tensors:
            code, _, err = ended(process)
            assert code == 0, err
            return saved(folder)

        yield tensors


def tree(folder: Path) -> dict[str, object]:
    """Everything in a folder, and whether it was touched."""
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in folder.rglob("*")}


@pytest.mark.parametrize("kills", [(53,), pytest.param((2, 18, 64, 96), marks=pytest.mark.slow)])
def test_killed_and_continued_equals_uninterrupted(
    dataset: Path, tmp_path: Path, whole: Callable[[], Tensors], kills: tuple[int, ...]
) -> None:
    """Wherever it was after these steps; before the first checkpoint or while it writes one."""
    folder = tmp_path / "run"
    first, again = {"save_every": 40, "workers": 2}, ("--save-every", "1", "--workers", "0")
    for step in kills:
        begins = not folder.exists()
        arguments = small(dataset, folder, steps=100, **first) if begins else None
        with running(*(arguments or resumed(folder, *again))) as process:
            reach(process, folder, step)
            readers = children(process)
            assert len(readers) == (2 if begins else 0)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            expect_gone(readers)
        if step == 2:
            assert not (folder / "checkpoints").exists()
    trained(*resumed(folder))
    expect_same(saved(folder), whole())
    assert not list((folder / "checkpoints").glob(".*"))
    said = [line["step"] for line in log(folder)]
    assert said == list(range(1, 101))


@pytest.mark.slow
def test_signals_save_first_and_it_is_said_how_to_continue(
    dataset: Path, tmp_path: Path, whole: Callable[[], Tensors], jatsr: Callable[..., Said]
) -> None:
    """SIGTERM while audio is sampled, then Ctrl-C at a terminal; what is said can be typed."""
    folder = tmp_path / "runs of today" / "run"
    hearing = {"val_every": 20, "sample_every": 20, "sample_steps": 50}
    with running(*small(dataset, folder, steps=100, workers=2, **hearing)) as process:
        reach(process, folder, 20, "Val/Loss")
        process.send_signal(signal.SIGSTOP)
        second = jatsr(*small(dataset, folder))
        third = jatsr(*resumed(folder))
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        code, out, err = ended(process)
    assert "holds a training already" in second.err
    assert "another process is training in" in third.err
    assert (second.code, third.code) == (1, 1)
    assert (code, "Traceback" in err) == (143, False)
    heard = [line["step"] for line in log(folder) if "Val/LSD" in line]
    assert heard == [20]
    with running(*continuing(out, folder)) as process:
        reach(process, folder, 61)
        process.send_signal(signal.SIGINT)
        for reader in children(process):  # a terminal signals all
            reader.send_signal(signal.SIGINT)
        code, out, err = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    trained(*continuing(out, folder))
    expect_same(saved(folder), whole())


def continuing(out: str, folder: Path) -> list[str]:
    """The arguments that a stopped training says, when that is all it says."""
    stopped, *_, last = out.splitlines()
    step = steps(folder / "checkpoints")[-1]
    newest = folder / "checkpoints" / f"{step:08d}"
    assert stopped == f"stopped at step {step}, saved in {newest}"
    words = shlex.split(last.removeprefix("continue with: "))
    assert words[:2] == ["jatsr", "train"]
    return words[2:]


def test_who_asks_again_does_not_wait(dataset: Path, tmp_path: Path) -> None:
    """Here for audio, which would take hours; what comes within 3 s is the same Ctrl-C."""
    folder = tmp_path / "run"
    hours = {"save_every": 1, "val_every": 2, "sample_every": 2, "sample_steps": 10**6}
    with running(*small(dataset, folder, **hours)) as process:
        reach(process, folder, 2, "Val/Loss")
        for _ in range(8):
            process.send_signal(signal.SIGINT)
            time.sleep(0.4)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process)
    assert (code, out) == (130, "")
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    found = newest_intact(folder / "checkpoints")
    assert (found.path, found.damaged) == (folder / "checkpoints" / "00000001", ())


def test_the_result_alone_goes_to_standard_output(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    folder = tmp_path / "run"
    said = jatsr(*small(dataset, folder, steps=3, val_every=3), "--json")
    out = said.out
    facts = json.loads(out, parse_constant=pytest.fail)
    assert "train: 3 of 3 steps" in said.err
    assert out.count("\n") == 1
    assert (facts["step"], facts["finished"]) == (3, True)
    assert Path(facts["checkpoint"]) == folder / "checkpoints" / "00000003"
    assert (Path(facts["model"]) / "model.safetensors").is_file()
    out = jatsr(*resumed(folder)).out  # nothing is left to be done
    assert out.splitlines()[0] == f"finished at step 3, saved in {facts['checkpoint']}"


def test_a_dry_run_writes_nothing(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    folder = tmp_path / "runs" / "run"
    said = jatsr(*small(dataset, folder, steps=4), "--dry-run")
    assert (said.code, said.out) == (0, "")
    assert "mdct-xs" in said.err
    assert "steps    4, cosine" in said.err
    assert not folder.parent.exists()
    assert jatsr(*small(dataset, folder, steps=4)).code == 0
    damaged = folder / "checkpoints" / "00000004" / "training.safetensors"
    damaged.write_bytes(b"")
    assert jatsr(*small(dataset, folder.with_name("other"), steps=2, save_every=2)).code == 0
    before = tree(tmp_path)
    assert jatsr(*resumed(folder.with_name("other")), "--dry-run").code == 0
    assert tree(tmp_path) == before


def test_a_dry_run_passes_over_damaged_checkpoints_and_leaves_them(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    folder = tmp_path / "run"
    assert jatsr(*small(dataset, folder, steps=4, save_every=2)).code == 0
    (folder / "checkpoints" / "00000004" / "training.safetensors").write_bytes(b"")
    before = tree(tmp_path)
    said = jatsr(*resumed(folder), "--dry-run")
    assert "step 2 of 4" in said.err
    assert tree(tmp_path) == before
    assert jatsr(*resumed(folder)).code == 0


def test_resuming_needs_a_training_with_these_options(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    folder = tmp_path / "runs" / "run"
    nowhere = jatsr("--resume", "--output", folder.parent)
    assert (nowhere.code, nowhere.out) == (1, "")
    assert f"--resume: no training in {folder.parent}" in nowhere.err
    unnamed = jatsr(*resumed(folder))
    assert unnamed.code == 1
    assert "--name" in unnamed.err
    assert not folder.parent.exists()
    assert jatsr(*small(dataset, folder, steps=2)).code == 0
    before = tree(folder)
    other = jatsr(*resumed(folder), "--lr", "0.1", "--loss", "frequency=0.5")
    assert other.code == 1
    assert "--lr 0.001, not 0.1" in other.err
    assert "--loss" in other.err
    assert "--accept-changes" in other.err
    assert tree(folder) == before
    again = jatsr(*small(dataset, folder))
    assert again.code == 1
    assert "holds a training already" in again.err
    assert "--resume" in again.err
    assert tree(folder) == before
    started = jatsr(*resumed(folder), "--start", folder / "checkpoints" / "last")
    assert started.code == 1
    assert "--start" in started.err
    assert tree(folder) == before
    newest = jatsr("--resume", "--output", folder.parent, "--log-every", "2", "--val-every", "0")
    assert newest.code == 0


def test_a_training_can_begin_with_the_best_weights_of_another(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert jatsr(*small(dataset, first, steps=2, val_every=2)).code == 0
    said = jatsr(*small(dataset, second, steps=1, start=first))
    assert said.code == 0, said.err
    _, digest = read_card(first / "checkpoints" / "best")
    assert read_run(second).recipe.start == digest


def test_the_encoder_of_captions_that_was_found_is_taken_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoder(place: str, device: torch.device, width: int) -> SimpleNamespace:
        return SimpleNamespace(identity="it", place=place)

    monkeypatch.setattr(begin, "TextEncoder", encoder)
    recipe = Recipe(model="saga", text_encoder="it")
    RunFile(str(dataset), recipe, Runtime(), {}, {}).write(tmp_path)
    wish = begin.Wish(dataset="", recipe={}, runtime={}, places={})
    task, _ = begin.same_training(tmp_path, wish, World())
    assert task.text.place == begin.DEFAULT
    with pytest.raises(ConfigError, match="--text-encoder 'it', not ''"):
        begin.same_training(tmp_path, replace(wish, places={"text_encoder": "off"}), World())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "s"}, "--model s works on latents of dac-72, the dataset has those of mdct"),
        ({"batch_size": 999}, "--batch-size 999: an epoch has"),
        ({"overfit": 999, "val_every": 1, "sample_every": 1}, "--overfit 999: the dataset has"),
        ({"start": "nowhere"}, "--start nowhere: expected a folder with model.json"),
        ({"text_encoder": "t5-base"}, "--text-encoder t5-base: --model mdct-xs takes no text"),
        ({"device": "cuda:9"}, "--device cuda:9"),
        ({"workers": 5}, "use --workers 1 or 2 or 3 or 4 or 6"),
    ],
)
def test_what_cannot_work_leaves_no_folder(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said], changes: dict[str, object],
    message: str,
) -> None:  # fmt: skip
    said = jatsr(*small(dataset, tmp_path / "runs" / "run", **changes))
    assert (said.code, said.out) == (1, "")
    assert message in said.err
    assert not (tmp_path / "runs" / "run").exists()


def test_there_must_be_a_dataset(tmp_path: Path, jatsr: Callable[..., Said]) -> None:
    said = jatsr(*small(tmp_path / "nowhere", tmp_path / "runs" / "run"))
    assert said.code == 1
    assert str(tmp_path / "nowhere") in said.err
    assert jatsr("--output", tmp_path / "runs").code == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("codes", [], "codec codes: no network is made for its latents"),
        ("codes", ["--model", "mdct-xs"], "the dataset has those of codes"),
        ("dac-44khz", [], "--codec-weights"),
        ("mdct", [], "mdct"),
    ],
)
def test_a_dataset_of_another_codec(
    tmp_path: Path, jatsr: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, name: str,
    more: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.setitem(datasets.CONFIG, "codec", {**datasets.CONFIG["codec"], "name": name})
    datasets.write_dataset(tmp_path / "dataset")
    said = jatsr(tmp_path / "dataset", "--device", "cpu", "--output", tmp_path / "runs", *more)
    assert (said.code, said.out) == (1, "")
    assert message in said.err
    assert not list((tmp_path / "runs").glob("*"))


def test_a_dataset_without_validation_is_trained_on(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said], build: Callable[..., object]
) -> None:
    build(dataset.with_name("music"), tmp_path / "dataset", lr=["sinc:16000"], val_fraction=0.0)
    every = {"val_every": 1, "sample_every": 1, "steps": 3}
    folder = tmp_path / "run"
    said = jatsr(*small(tmp_path / "dataset", folder, **every), "--json")
    assert said.code == 0
    assert "nothing is validated" in said.err
    facts = json.loads(said.out)
    assert (facts["validated"], facts["sampled"]) == (-1, 0)
    assert not (folder / "checkpoints" / "best").is_symlink()


def test_a_crop_that_is_not_learned_by_heart_is_a_failure(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    folder = tmp_path / "run"
    said = jatsr(*small(dataset, folder, steps=2, overfit=1, val_every=2, sample_every=2))
    assert said.code == 1
    assert "NOT learned" in said.out
    assert said.err.count("by heart") == 1
    again = jatsr(*resumed(folder), "--json")
    assert (again.code, json.loads(again.out)["learned"]) == (1, False)


def test_learning_by_heart_needs_audio(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    said = jatsr(*small(dataset, tmp_path / "run", steps=2, overfit=1, sample_every=0))
    assert said.code == 1
    assert "leave out --sample-every 0" in said.err


def test_too_little_memory_ends_it_with_what_to_do(dataset: Path, tmp_path: Path) -> None:
    """There are 300 MB; activations of crops filled up to a minute and a half need more."""
    arguments = small(dataset, tmp_path / "run", batch_size=4, crop_frames=8000)
    with running(*arguments, program=("-c", LITTLE_MEMORY)) as process:
        code, out, err = ended(process)
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    assert "out of memory on cpu: mdct-xs with 4 crops of 8000 frames" in err
    assert "hint: use --micro-batch" in err


@pytest.mark.slow
def test_a_crop_that_is_learned_by_heart_is_a_success(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said]
) -> None:
    """With what ``--overfit`` chooses by itself."""
    said = jatsr(dataset, *at(tmp_path / "run"), "--model", "mdct-xs", "--overfit", "1",
                 "--device", "cpu", "--workers", "0", "--crop-frames", "32")  # fmt: skip
    assert said.code == 0
    assert said.out.endswith("learned\n")


def test_a_full_disk_ends_it_with_what_to_do(
    dataset: Path, tmp_path: Path, jatsr: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log cannot be written any more."""
    folder, write, count = tmp_path / "run", RecordWriter.write, []

    def filling(writer: RecordWriter, data: bytes) -> None:
        count.append(data)
        if len(count) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, data)

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", filling)
        said = jatsr(*small(dataset, folder, steps=12))
    assert (said.code, said.out) == (1, "")
    assert "No space left on device while writing the log" in said.err
    assert "--resume" in said.err
    done = steps(folder / "checkpoints")
    assert done == [5]
    assert jatsr(*resumed(folder)).code == 0
    assert [line["step"] for line in log(folder)] == list(range(1, 13))
