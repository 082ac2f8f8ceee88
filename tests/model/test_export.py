"""``jatsr export``: what is given away is the network, half as large."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny_dit import TINY, awake

from cli import jatsr
from jatsr_model.exports import export_network
from jatsr_model.model_folder import CARD, WEIGHTS, Card, ModelError, load_network, save_network
from shards.files import sha256_file


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "checkpoints" / "best"
    folder.parent.mkdir(parents=True)
    card = Card(model="tiny", config=TINY, prediction="x", latents={"space": "mdct"})
    save_network(folder, awake(TINY), card)
    return folder


@pytest.mark.parametrize("option", ["--half", "--full"])
def test_what_is_exported_is_the_network(trained: Path, tmp_path: Path, option: str) -> None:
    folder = tmp_path / "given"
    done = CliRunner().invoke(
        jatsr, ["export", str(trained.parents[1]), str(folder), option, "--json"]
    )
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]
    assert facts["sha256"] == sha256_file(folder / WEIGHTS)
    assert facts["size"] == (folder / WEIGHTS).stat().st_size
    (network, card), (given, its) = load_network(trained), load_network(folder)
    assert its == card
    size = (trained / WEIGHTS).stat().st_size
    assert facts["size"] < 0.6 * size if option == "--half" else facts["size"] == size
    tolerance = 1e-3 if option == "--half" else 0.0
    for (name, tensor), other in zip(
        network.state_dict().items(), given.state_dict().values(), strict=True
    ):
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, tensor, rtol=tolerance, atol=tolerance / 10, msg=name)


def test_a_folder_that_is_there_is_left_alone(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exists already"):
        export_network(trained, tmp_path)


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    network = awake(TINY)
    with torch.no_grad():
        next(network.parameters()).fill_(1e6)
    save_network(tmp_path / "a", network, Card(model="", config=replace(TINY), prediction="x"))
    with pytest.raises(ModelError, match="float16"):
        export_network(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    export_network(tmp_path / "a", tmp_path / "b", half=False)
