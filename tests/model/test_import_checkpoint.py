"""Checkpoints of the public scripts: strictly, safely, and the same function."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from plain_jatsr import PlainJatsr, trained, write_checkpoint
from tiny_dit import TINY, latents

from cli import jatsr
from jatsr_model.dit import Conditions, DiT, preset
from jatsr_model.imports.jatsr import import_checkpoint
from jatsr_model.imports.layout import rename
from jatsr_model.model_folder import (
    CARD,
    WEIGHTS,
    Card,
    ModelError,
    find_model,
    load_network,
    save_network,
)

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


@pytest.mark.parametrize("loss", [math.inf, math.nan, np.float64(0.5), None])
def test_losses_of_any_kind_give_valid_json(tmp_path: Path, loss: float | None) -> None:
    file = write_checkpoint(tmp_path / "last.pt", trained(), best_val_loss=loss)
    facts = json.loads(command(file, "--json").output, parse_constant=pytest.fail)
    assert facts["epoch"] == 3
    assert ("best_val_loss" in facts) == (loss == 0.5)
    assert load_network(tmp_path / "last")[1].origin["epoch"] == 3


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
    command(layer)
    assert load_network(tmp_path / "layer")[1].model == "a"
    monkeypatch.setattr(module, "PRESETS", {**presets, "d": presets["a"]})
    command(layer, "-o", tmp_path / "two")
    card = load_network(tmp_path / "two")[1]
    assert card.model == ""
    assert card.origin["models"] == ["a", "d"]
    assert import_checkpoint(layer, "a").models == ("a",)
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
        (state(**{"blocks.1.attn.rope.inv_freq": torch.ones(4)}), "another base"),
        (state(**{"blocks.1.attn.rope.cos_cached": torch.ones(64, 8)}), "another base"),
        (state(**{"blocks.9.attn.rope.inv_freq": torch.ones(4)}), "of 3 blocks there is none"),
        (state(**{"blocks.200000.norm1.weight": torch.ones(4)}), "of 3 blocks there is none"),
        (
            state(**{"module.final_layer.1.bias": torch.ones(24)}),
            "1.bias is there twice",
        ),
        (state(**{"final_layer.1.bias": None, "head.project.bias": torch.ones(24)}), "not a name"),
        (state(**{"final_layer.1.bias": torch.full((24,), math.nan)}), "1.bias holds .* NaN"),
        (state(**{"final_layer.1.bias": torch.ones(24, dtype=torch.int64)}), "1.bias is .*int64"),
        (state(**{"final_layer.1.weight": torch.ones(24, 32).to_sparse()}), "plain floats"),
        (state(**{"final_layer.1.weight": torch.ones(24, 32, device="meta")}), "plain floats"),
        (state(**{"blocks.0.attn.rope.inv_freq": torch.tensor(1.0)}), "no network with rotary"),
        (state(**{"blocks.0.attn.rope.inv_freq": torch.ones(0)}), "no network with rotary"),
        (state(**{"blocks.0.attn.k_proj.weight": torch.tensor(1.0)}), "no network with rotary"),
        (state(**{"patch_embed.proj.2.weight": torch.ones(3)}), "no network with rotary"),
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


@pytest.mark.parametrize("config", [{"patch_len": 0}, {"dropout": 5.0}, {"drop_path_rate": 1.0}])
def test_a_config_that_cannot_be_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    file = write_checkpoint(tmp_path / "last.pt", trained(), config=config)
    with pytest.raises(ModelError, match=r"last\.pt"):
        import_checkpoint(file)


@pytest.mark.parametrize("config", [None, [1], {"patch_len": None, "dropout": math.nan}])
def test_a_config_that_says_nothing_is_left_alone(tmp_path: Path, config: object) -> None:
    file = write_checkpoint(tmp_path / "last.pt", trained(), config=config)
    assert import_checkpoint(file).network.config.dropout == 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_shared_memory_are_taken(tmp_path: Path, dtype: torch.dtype) -> None:
    state = trained().state_dict()
    flat = torch.cat([v.flatten() for v in state.values()]).to(dtype)
    parts = flat.split([v.numel() for v in state.values()])
    views = {k: part.view(state[k].shape) for k, part in zip(state, parts, strict=True)}
    command(write_checkpoint(tmp_path / "last.pt", trained(), model_state_dict=views))
    ours, theirs = outputs(load_network(tmp_path / "last")[0], trained(), 8)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.1)


def test_networks_without_weights_cannot_be_saved(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = DiT(TINY)
    with pytest.raises(ModelError, match="cannot be saved"):
        save_network(tmp_path / "a", network, Card(model="", config=TINY, prediction="x"))
    shared = DiT(TINY)
    shared.time.mlp[0].bias = shared.time.mlp[2].bias
    with pytest.raises(ModelError, match="cannot be saved"):
        save_network(tmp_path / "a", shared, Card(model="", config=TINY, prediction="x"))
    assert not any(tmp_path.iterdir())


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        import_checkpoint(tmp_path / "none.pt")
    torn = write_checkpoint(tmp_path / "torn.pt", trained())
    torn.write_bytes(torn.read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        import_checkpoint(torn)
    torn.write_bytes(b"")
    with pytest.raises(ModelError, match=r"torn\.pt is empty"):
        import_checkpoint(torn)
    torch.save({"weights": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="model_state_dict"):
        import_checkpoint(tmp_path / "other.pt")


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    plain = trained()
    file = write_checkpoint(tmp_path / "last.pt", plain)
    content = bytearray(file.read_bytes())
    where = content.find(plain.final_layer[1].weight.detach().numpy().tobytes())
    content[where + 3] ^= 0x40
    file.write_bytes(content)
    with pytest.raises(ModelError, match="checksum"):
        import_checkpoint(file)


def test_whatever_is_wrong_with_a_file_is_said_by_name(tmp_path: Path) -> None:
    """Bytes of the old format, which has no checksums, changed where its pickle lies."""
    file, chance = write_checkpoint(tmp_path / "new.pt", trained()), random.Random(0)
    content = torch.load(file, weights_only=False)
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    good = (tmp_path / "old.pt").read_bytes()
    start, refused = good.find(b"model_state_dict"), []
    for _ in range(60):
        damaged = bytearray(good)
        damaged[start + chance.randrange(-200, 3000)] = chance.randrange(256)
        (tmp_path / "bad.pt").write_bytes(damaged)
        try:
            import_checkpoint(tmp_path / "bad.pt")
        except ModelError as error:
            refused.append(error)
    assert len(refused) > 20
    assert all(error.hint for error in refused)


def test_a_model_has_a_folder_a_training_or_the_name_of_one(tmp_path: Path) -> None:
    best = tmp_path / "runs" / "big" / "checkpoints" / "best"
    best.parent.mkdir(parents=True)
    save_network(best, DiT(TINY), Card(model="", config=TINY, prediction="x"))
    for name in (str(best), str(tmp_path / "runs" / "big"), "big"):
        assert find_model(name, tmp_path / "runs") == best
    with pytest.raises(ModelError, match=r"--model small: .*model\.json"):
        find_model("small", tmp_path / "runs")


def test_a_folder_that_was_damaged_is_noticed(tmp_path: Path) -> None:
    command(write_checkpoint(tmp_path / "last.pt", trained()), "-o", tmp_path / "model")
    weights = tmp_path / "model" / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="sha256"):
        load_network(tmp_path / "model")
    weights.unlink()
    with pytest.raises(ModelError, match=f"{WEIGHTS}: .*No such file") as refused:
        load_network(tmp_path / "model")
    assert refused.value.hint == "copy it again"
    (tmp_path / "model" / CARD).write_text("{}")
    with pytest.raises(ModelError, match="should describe a network"):
        load_network(tmp_path / "model")


def test_a_network_of_another_version_is_named_as_such(tmp_path: Path) -> None:
    other = replace(TINY, hidden=2 * TINY.hidden)
    save_network(tmp_path / "m", DiT(other), Card(model="", config=TINY, prediction="x"))
    with pytest.raises(ModelError, match="does not fit") as refused:
        load_network(tmp_path / "m")
    assert "another version" in str(refused.value.hint)
