"""Checkpoints of the public scripts: strictly, safely, and the same function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from plain_jatsr import PlainJatsr, trained, write_checkpoint
from tiny_dit import latents

from cli import jatsr
from jatsr_model.dit import Conditions, DiT, preset
from jatsr_model.imports.jatsr import import_checkpoint
from jatsr_model.imports.layout import rename
from jatsr_model.model_folder import CARD, WEIGHTS, ModelError, load_network

T = torch.tensor([0.3, 0.95])


def command(*arguments: object) -> Result:
    words = ["import-checkpoint", *map(str, arguments)]
    return CliRunner().invoke(jatsr, words, catch_exceptions=False)


def outputs(network: DiT, plain: PlainJatsr, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    noisy, low = latents(2, frames), latents(2, frames, seed=1)
    with torch.no_grad():
        return network(noisy, T, Conditions(low=low)), plain(noisy, T, low)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("frames", [16, 18])
def test_the_function_is_the_same(tmp_path: Path, frames: int, *, rms: bool) -> None:
    plain = trained(rms=rms)
    imported = import_checkpoint(write_checkpoint(tmp_path / "last.pt", plain))
    ours, theirs = outputs(imported.network, plain, frames)
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_what_the_command_writes_loads_and_computes_the_same(tmp_path: Path) -> None:
    plain = trained()
    file = write_checkpoint(tmp_path / "last.pt", plain)
    result = command(file)
    assert "30 loaded, 0 missing, 0 unexpected, 6 derived" in result.output
    assert "global_step 1234" in result.output
    network, card = load_network(tmp_path / "last")
    assert card.config.legacy
    assert card.origin["global_step"] == 1234
    ours, theirs = outputs(network, plain, 10)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert "t=0 noise" in json.loads((tmp_path / "last" / CARD).read_text())["time"]
    with pytest.raises(ModelError, match="exists already"):
        command(file)


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "last.pt", trained())
    facts = json.loads(command(file, "--check", "--json").output)
    assert facts["parameters"] == sum(p.numel() for p in trained().parameters())
    assert facts["models"] == []  # no preset is that small
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "v3m2"])
def test_names_and_shapes_of_the_presets(name: str) -> None:
    config = preset(name, legacy=True).config
    with torch.device("meta"):
        ours = DiT(config)
        theirs = PlainJatsr(
            1024,
            config.hidden,
            config.depth,
            config.heads,
            config.kv_heads,
            512,
            rms=config.norm == "rms",
        )
    found = {rename(k): v.shape for k, v in theirs.named_parameters()}
    assert found == {k: v.shape for k, v in ours.state_dict().items()}


def test_a_preset_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tiny_dit import TINY

    from jatsr_model.imports import jatsr as module

    tiny = replace(TINY, mlp_hidden=128)
    presets = {
        "a": replace(preset("v3"), config=tiny),
        "b": replace(preset("v3m2"), config=replace(tiny, norm="rms")),
        "c": replace(preset("v3"), config=replace(tiny, depth=3)),
    }
    monkeypatch.setattr(module, "PRESETS", presets)
    layer = write_checkpoint(tmp_path / "layer.pt", trained())
    rms = write_checkpoint(tmp_path / "rms.pt", trained(rms=True))
    assert import_checkpoint(layer).models == ("a",)
    assert import_checkpoint(rms, "b").models == ("b",)
    with pytest.raises(ModelError, match=r"LayerNorm without weights, b has RMSNorm"):
        import_checkpoint(layer, "b")
    with pytest.raises(ModelError, match=r"RMSNorm, a has LayerNorm without weights"):
        import_checkpoint(rms, "a")
    with pytest.raises(ModelError, match="depth 2 instead of 3"):
        import_checkpoint(layer, "c")


def test_names_with_the_prefix_of_compiled_modules(tmp_path: Path) -> None:
    plain = trained()
    file = write_checkpoint(tmp_path / "last.pt", plain, prefix="module._orig_mod.")
    ours, theirs = outputs(import_checkpoint(file).network, plain, 8)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


class Harm:
    """Would run on loading."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def test_files_that_would_run_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_checkpoint(tmp_path / "last.pt", trained(), extra=Harm())
    with pytest.raises(ModelError, match="arbitrary code"):
        import_checkpoint(file)
    assert not Path("harmed").exists()


def state(**changes: Any) -> dict[str, Any]:
    found = dict(trained().state_dict())
    for name, value in changes.items():
        if value is None:
            del found[name]
        else:
            found[name] = value
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (state(**{"blocks.1.mlp.3.bias": None}), "1 missing .*mlp.down.bias.*, 0 unexpected"),
        (state(extra=torch.zeros(1)), "0 missing, 1 unexpected"),
        (state(**{"blocks.1.norm1.weight": torch.ones(32)}), "1 unexpected"),
        (state(**{"blocks.1.mlp.0.bias": torch.zeros(3)}), "1 of another shape"),
        (state(**{"blocks.0.attn.rope.inv_freq": torch.ones(4)}), "another base"),
        (state(**{"blocks.0.attn.rope.inv_freq": None}), "no network with rotary"),
        (state(**{"final_layer.1.bias": 3}), "no tensor"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = write_checkpoint(tmp_path / "last.pt", trained(), model_state_dict=changes)
    with pytest.raises(ModelError, match=message):
        import_checkpoint(file)


def test_a_config_that_contradicts_the_tensors_is_refused(tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "last.pt", trained(), config={"num_q_heads": 8})
    with pytest.raises(ModelError, match="num_q_heads = 8"):
        import_checkpoint(file)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        import_checkpoint(tmp_path / "none.pt")
    torn = write_checkpoint(tmp_path / "torn.pt", trained())
    torn.write_bytes(torn.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        import_checkpoint(torn)
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="model_state_dict"):
        import_checkpoint(tmp_path / "other.pt")


def test_a_folder_that_was_damaged_is_noticed(tmp_path: Path) -> None:
    command(write_checkpoint(tmp_path / "last.pt", trained()), "-o", tmp_path / "model")
    weights = tmp_path / "model" / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="sha256"):
        load_network(tmp_path / "model")
    weights.unlink()
    with pytest.raises(ModelError, match="does not fit"):
        load_network(tmp_path / "model")
    (tmp_path / "model" / CARD).write_text("{}")
    with pytest.raises(ModelError, match="should describe a network"):
        load_network(tmp_path / "model")
