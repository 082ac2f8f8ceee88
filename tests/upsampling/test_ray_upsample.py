"""Upsampling on Ray: the bytes of one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from around import far_away
from click.testing import CliRunner
from clusters import RayCluster
from upsample_runs import Around, ledger, outputs, poisoned, run
from upsamplings import dull, write

from pipeline.commands.upsample import upsample
from pipeline.engines.ray import RayEngine
from pipeline.engines.ray_options import RayOptions


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files; never written to by tests."""
    root = tmp_path_factory.mktemp("music")
    for number in range(3):
        write(root / f"{number}.wav", dull(0.4, 16000, seed=number), 16000)
    return root


def on(cluster: RayCluster) -> RayEngine:
    """As ``jatsr upsample --engine ray --workers 2`` has it."""
    return RayEngine(cluster.address, RayOptions(actors=2, in_flight=1))


@pytest.mark.parametrize("sees_out", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_actors_make_the_same_bytes(
    music: Path, alone: Path, model_folder: Path, ray_cluster: RayCluster, tmp_path: Path,
    sees_out: bool,
) -> None:  # fmt: skip
    with on(ray_cluster) as ray:
        engine = ray if sees_out else Around(ray, change=far_away)
        assert run([music], tmp_path, model_folder, engine=engine).counts == {"ok": 3}
        assert run([music], tmp_path, model_folder, engine=engine).kept == 3
    assert outputs(tmp_path) == outputs(alone)


@pytest.mark.slow
def test_a_file_that_kills_every_actor_is_one_failed_row(
    music: Path, alone: Path, model_folder: Path, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    write(tmp_path / "in/poison.wav", dull(0.1, 8000), 8000)
    shutil.copy(music / "2.wav", tmp_path / "in")
    with on(ray_cluster) as ray:
        run([tmp_path / "in"], tmp_path / "out", model_folder, engine=Around(ray, change=poisoned))
    assert outputs(tmp_path / "out") == {"2.wav": outputs(alone)["2.wav"]}
    assert ledger(tmp_path / "out")["poison.wav"]["status"] == "failed"


@pytest.mark.slow
def test_the_command_does_on_a_cluster_what_it_does_alone(
    music: Path, model_folder: Path, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    options = ["--model", str(model_folder), "--steps", "1", "--json"]
    there = ["--engine", "ray", "--ray-address", ray_cluster.address, "--workers", "1"]
    for out, engine in (("ray", there), ("here", ["--engine", "inline"])):
        arguments = [str(music), str(tmp_path / out), *options, *engine]
        result = CliRunner().invoke(upsample, arguments, catch_exceptions=False)
        assert json.loads(result.stdout)["files"]["ok"] == 3
        assert ("Ray at" in result.stderr) == (out == "ray")
    assert outputs(tmp_path / "ray") == outputs(tmp_path / "here")
