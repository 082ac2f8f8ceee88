"""Figures that `jatsr models` prints, against arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner, Result
from tiny_dit import SHAPES, TINY, latents
from torch.autograd.graph import saved_tensors_hooks

from cli import jatsr
from jatsr_model.dit import PRESETS, Conditions, DiT, DiTConfig, Preset
from jatsr_model.dit.measure import _Kept, measure
from shards.errors import ConfigError

ONE = Preset(name="tiny", config=replace(TINY, depth=3), space="mdct", about="", frame_rate=10.0)


def models(*arguments: str) -> Result:
    return CliRunner().invoke(jatsr, ["models", *arguments], catch_exceptions=False)


def test_operations_are_those_of_the_matrices() -> None:
    cost = measure(ONE, seconds=4.0)  # 40 frames, 10 tokens
    entry = 2 * 10 * (48 * 16 + 16 * 32)
    time = 2 * 2 * 32 * 32
    projections = 2 * 10 * (2 * 32 * 32 + 2 * 32 * 16 + 2 * 32 * 48)
    products = 2 * 2 * 10 * 10 * 32
    modulation = 2 * 32 * 6 * 32
    head = 2 * 10 * 32 * 24
    assert cost.forward_flops == entry + time + 3 * (projections + products + modulation) + head
    assert cost.seconds == 4.0


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_modules_add_up_and_recomputing_keeps_less(config: object) -> None:
    one = replace(ONE, config=replace(config, depth=8))
    cost, longer = measure(one, 40.0), measure(one, 80.0)
    assert sum(cost.modules.values()) == cost.parameters
    assert cost.recomputed_bytes < cost.activation_bytes < longer.activation_bytes
    assert cost.training_bytes == 22 * cost.parameters + cost.activation_bytes
    assert ("cross-attention" in cost.modules) == bool(one.config.text_dim)


def test_kept_activations_are_those_of_autocast() -> None:
    cost = measure(ONE, seconds=40.0)  # 100 tokens of 32 values
    per_token = cost.block_bytes / 100 / 2 / 32
    assert 8 < per_token < 20  # two norms, queries, keys, values, the MLP twice, branches


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_what_training_keeps_is_what_is_counted(config: DiTConfig) -> None:
    """From the difference of two lengths, the copies of weights that autocast keeps fall out."""

    def kept(frames: int) -> int:
        network = DiT(config).train()
        seen = _Kept(network)
        data = latents(1, frames)
        given = Conditions(low=data, rolloff=torch.rand(1, 2),
                           text=torch.rand(1, 128, max(config.text_dim, 1)))  # fmt: skip
        with torch.autocast("cpu", torch.bfloat16), saved_tensors_hooks(seen.add, lambda x: x):
            out = network(data, torch.rand(1), given)
        del out
        return seen.bytes

    one = replace(ONE, config=config)
    counted = measure(one, 16.0).activation_bytes - measure(one, 8.0).activation_bytes
    assert counted == pytest.approx(kept(160) - kept(80), rel=0.02)


def test_the_table_lists_every_network_and_what_is_wrong_with_claims(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = {name: PRESETS[name] for name in ("s", "v3mod1")}
    monkeypatch.setattr("jatsr_model.dit.PRESETS", two)
    text = models().output
    assert all(f"\n{name} " in text for name in two)
    assert "v3mod1: parameters: 780 M says JaTSR README (+1.8 %)" in text
    assert "766,125,312" in text
    assert "train: at least" in text


def test_one_network_as_json() -> None:
    facts = json.loads(models("v1", "--json", "--seconds", "2").output)
    assert facts["parameters"] == 60_628_992
    assert facts["modules"]["modulation"] == 12 * (512 * 3072 + 3072)
    assert facts["modulated_share"] == pytest.approx(0.312, abs=5e-4)
    assert facts["crop_seconds"] == pytest.approx(2.0, abs=0.05)


def test_two_networks_side_by_side() -> None:
    lines = models("--compare", "v1", "s").output.splitlines()
    assert lines[0].split() == ["v1", "s", "ratio"]
    modulation = next(line for line in lines if line.startswith("  modulation"))
    assert float(modulation.split()[3]) < 0.1


def test_what_cannot_be_shown_is_refused() -> None:
    assert models("v1", "--compare", "v1", "v2").exit_code == 2
    assert models("v1", "--seconds", "nan").exit_code == 2
    with pytest.raises(ConfigError, match="no network"):
        models("v9")
