"""Sizes, exact to the parameter; shapes that cannot work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_dit import TINY

from jatsr_model.dit import PRESETS, DiT, preset
from shards.errors import ConfigError

EXACT = {
    "v1": 60_628_992,
    "v2": 288_022_016,
    "v3": 766_125_312,
    "v3mod1": 766_125_312,
    "v3mod2": 766_125_312,
    "v3mod3": 766_125_312,
    "v3m2": 766_198_272,
    "saga": 1_056_939_136 + 2 * 198_272,  # its transformer and two embedders of numbers
}


def parameters(name: str, *, legacy: bool = False) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in DiT(preset(name, legacy=legacy).config).parameters())


@pytest.mark.parametrize("name", EXACT)
def test_published_networks_have_their_size(name: str) -> None:
    assert parameters(name) == EXACT[name]


@pytest.mark.parametrize(("ours", "theirs"), [("s", "v1"), ("m", "v2"), ("l", "v3")])
def test_ours_are_smaller_than_what_they_replace(ours: str, theirs: str) -> None:
    assert parameters(ours) < 0.75 * parameters(theirs)


def test_legacy_changes_the_function_and_not_the_parameters() -> None:
    assert parameters("v1", legacy=True) == parameters("v1")
    assert preset("v1", legacy=True).config.time_scale == 1
    assert preset("v1").config.time_scale == 1000


def test_nothing_but_parameters_is_stored() -> None:
    for name in PRESETS:
        with torch.device("meta"):
            network = DiT(preset(name).config)
        assert network.state_dict().keys() == dict(network.named_parameters()).keys()


@pytest.mark.parametrize("name", ["s", "mdct-m", "saga"])
def test_without_an_original_there_is_no_legacy(name: str) -> None:
    with pytest.raises(ConfigError, match="no legacy mode"):
        preset(name, legacy=True)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no network 'v9'"):
        preset("v9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"depth": 0}, "depth is 0"),
        ({"heads": 5}, "heads is 5"),
        ({"kv_heads": 3}, "kv_heads is 3"),
        ({"rotary": 3}, "pairs"),
        ({"rotary": 16}, "more than the 8"),
        ({"text_dim": 8, "text_kv_heads": 3}, "text_kv_heads is 3"),
        ({"text_dim": 8, "text_kv_heads": 2, "rolloff_dim": 4}, "must be equal"),
        ({"dropout": 5.0}, "dropout is 5"),
        ({"drop_path": 1.0}, "drop_path is 1"),
        ({"drop_path": float("nan")}, "drop_path is nan"),
        ({"time_scale": float("nan")}, "time_scale is nan"),
        ({"rotary": -2}, "rotary is -2"),
        ({"rolloff_dim": -1}, "rolloff_dim is -1"),
        ({"depth": 2.5}, r"depth is 2\.5"),
        ({"patch": True}, "patch is True"),
        ({"hidden": "32"}, "hidden is '32'"),
        ({"legacy": True, "entry": "linear"}, "legacy with a linear entry"),
    ],
)
def test_shapes_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **change)
