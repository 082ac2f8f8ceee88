"""Upsampling by several processes: the bytes of one, whatever dies."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from around import far_away
from sessions import GpuSession
from upsample_runs import Around, Watching, ledger, outputs, poisoned, run
from upsamplings import dull, write

from pipeline.engines.echo import EchoTask
from pipeline.engines.inline import InlineEngine
from pipeline.engines.local import LocalEngine
from pipeline.upsample.engine import EngineOptions, open_crew

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files, one of full bandwidth; never written to by tests."""
    root = tmp_path_factory.mktemp("music")
    for number in range(3):
        write(root / f"a/{number}.wav", dull(0.4, 16000, seed=number), 16000)
    write(root / "full.wav", dull(0.4, 44100), 44100)
    return root


def facts(out: Path) -> Rows:
    """Rows without times."""
    return {
        name: {key: value for key, value in row.items() if key != "took_seconds"}
        for name, row in ledger(out).items()
    }


def test_two_processes_make_the_same_bytes(
    music: Path, alone: Path, model_folder: Path, tmp_path: Path
) -> None:
    ui = Watching()
    outcome = run([music], tmp_path, model_folder, engine=LocalEngine(2), ui=ui)
    assert outcome.counts == {"ok": 3, "passed-through": 1}
    assert outputs(tmp_path) == outputs(alone)
    assert facts(tmp_path) == facts(alone)
    assert ui.done == pytest.approx(1.6)
    assert run([music], tmp_path, model_folder, engine=LocalEngine(2)).kept == 4


def test_the_number_of_threads_changes_no_more_than_rounding(
    music: Path, alone: Path, model_folder: Path, tmp_path: Path
) -> None:
    """On some processors not even that, but it is no promise of the libraries."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run([music], tmp_path, model_folder)
    finally:
        torch.set_num_threads(before)
    found, expected = outputs(tmp_path), outputs(alone)
    assert found.keys() == expected.keys()
    for name, data in found.items():
        wave, wanted = (soundfile.read(BytesIO(each))[0] for each in (data, expected[name]))
        np.testing.assert_allclose(wave, wanted, rtol=0, atol=1e-5, err_msg=name)


def test_a_file_that_kills_its_worker_is_one_failed_row(
    music: Path, alone: Path, tmp_path: Path, model_folder: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(music, source)
    shutil.copy(music / "full.wav", source / "a/poison.wav")
    ui = Watching()
    engine = Around(LocalEngine(2), change=poisoned)
    outcome = run([source], out, model_folder, engine=engine, ui=ui)
    assert outcome.counts == {"ok": 3, "passed-through": 1, "failed": 1}
    assert outputs(out) == outputs(alone)
    row = ledger(out)["a/poison.wav"]
    assert "SIGSEGV" in row["reason"]
    assert row["hint"]
    assert [note for note in ui.notes if "poison.wav" in note]


def test_workers_that_do_not_see_out_send_what_they_make(
    music: Path, alone: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.upsample.delivery._PIECE", 10_000)
    run([music], tmp_path, model_folder, engine=Around(InlineEngine(), change=far_away))
    assert outputs(tmp_path) == outputs(alone)
    assert facts(tmp_path) == facts(alone)


def test_each_process_has_a_gpu_of_its_own() -> None:
    engine = LocalEngine(2, gpus=["GPU-3", "5"])
    found = [
        e for e in engine.run(GpuSession(), [EchoTask("a"), EchoTask("b")]) if hasattr(e, "node")
    ]
    assert {e.node for e in found} <= {"GPU-3", "5"}
    assert len({e.node for e in found}) == len({e.pid for e in found})


@pytest.mark.parametrize(
    ("options", "files", "cores", "workers"),
    [
        ({}, 1, 4, 0), ({}, 3, 4, 3), ({}, 9, 4, 4), ({}, 9, 1, 0), ({}, 0, 4, 0),
        ({"engine": "inline"}, 9, 4, 0), ({"workers": 0}, 9, 4, 0), ({"workers": 2}, 9, 1, 2),
        ({"engine": "local"}, 1, 4, 1), ({"engine": "local", "workers": 0}, 9, 4, 0),
    ],
)  # fmt: skip
def test_who_works_by_default(
    monkeypatch: pytest.MonkeyPatch, options: Any, files: int, cores: int, workers: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    with open_crew(EngineOptions(device="cpu", **options)) as crew:
        engine = crew.engine(files, lambda _: None)
    assert crew.device == "cpu"
    assert isinstance(engine, LocalEngine if workers else InlineEngine)
    assert getattr(engine, "_limit", 0) == workers


@pytest.mark.parametrize(
    ("device", "visible", "options", "expected"),
    [
        ("", "", {}, (2, ["0", "1"])), ("cuda", "7,GPU-8", {}, (2, ["7", "GPU-8"])),
        ("cuda:1", "", {}, None), ("cuda:1", "", {"workers": 2}, (2, [])),
        ("", "", {"workers": 4}, (4, ["0", "1"])), ("", "", {"engine": "inline"}, None),
    ],
)  # fmt: skip
def test_a_process_for_each_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str, options: Any, expected: Any
) -> None:
    monkeypatch.setattr("pipeline.upsample.engine.device_for", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with open_crew(EngineOptions(device=device, **options)) as crew:
        engine = crew.engine(9, lambda _: None)
    found = (engine._limit, engine._gpus) if isinstance(engine, LocalEngine) else None
    assert found == expected
