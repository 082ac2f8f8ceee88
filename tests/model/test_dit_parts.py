"""Attention, rotary positions, embedded time, patches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_dit import TINY, latents
from torch import Tensor, nn
from torch.nn import functional

from jatsr_model.dit.attention import Attention
from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.embeddings import sinusoids
from jatsr_model.dit.layers import DropPath
from jatsr_model.dit.patches import make_grid, patchify, unpatchify
from jatsr_model.dit.rotary import rotate, rotation

CPU = torch.device("cpu")


def test_grouped_queries_equal_expanded_heads() -> None:
    torch.manual_seed(0)
    grouped = Attention(TINY, 2, 32)
    expanded = Attention(replace(TINY, kv_heads=4), 4, 32)
    for name in ("query", "out"):
        getattr(expanded, name).load_state_dict(getattr(grouped, name).state_dict())
    for name in ("key", "value"):
        weight = getattr(grouped, name).weight.unflatten(0, (2, 8)).repeat_interleave(2, dim=0)
        getattr(expanded, name).weight = nn.Parameter(weight.flatten(0, 1))
    x = torch.randn(2, 7, 32)
    turn = rotation(torch.arange(7.0)[None], 8)
    keep = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])[:, None, None]
    for mask in (None, keep):
        found = [attention(x, x, mask=mask, turn=turn) for attention in (grouped, expanded)]
        torch.testing.assert_close(*found)


def test_kernels_never_get_a_mask_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs have fused kernels for either, and for both only the slow one."""
    asked: list[tuple[bool, int]] = []
    kernel = functional.scaled_dot_product_attention

    def record(query: Tensor, key: Tensor, *rest: Tensor, **options: Any) -> Tensor:
        asked.append((options["enable_gqa"], key.shape[1]))
        return kernel(query, key, *rest, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", record)
    attention, x = Attention(TINY, 2, 32), torch.randn(1, 3, 32)
    attention(x, x)
    attention(x, x, mask=torch.ones(1, 1, 1, 3, dtype=torch.bool))
    assert asked == [(True, 2), (False, 4)]


@pytest.mark.parametrize("legacy", [False, True])
def test_only_legacy_drops_attention_weights(*, legacy: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(replace(TINY, dropout=0.5, legacy=legacy), 2, 32).train()
    x = torch.randn(2, 5, 32)
    assert torch.equal(attention(x, x), attention(x, x)) is not legacy


def test_attention_is_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    attention = Attention(TINY, 4, 32)
    x = torch.randn(1, 5, 32)
    query, key, value = (
        layer(x).view(1, 5, 4, 8).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    weights = (query @ key.transpose(-1, -2) / math.sqrt(8)).softmax(-1)
    expected = attention.out((weights @ value).transpose(1, 2).reshape(1, 5, 32))
    torch.testing.assert_close(attention(x, x), expected)


def test_rotary_products_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def product(at: float, distance: float) -> float:
        turned = rotate(query, rotation(torch.tensor([[at]]), 16))
        other = rotate(key, rotation(torch.tensor([[at + distance]]), 16))
        return float((turned * other).sum())

    for distance in (0.0, 1.0, 2.5, 17.0):
        assert product(3.0, distance) == pytest.approx(product(40.25, distance), abs=1e-4)
    assert product(3.0, 1.0) != pytest.approx(product(3.0, 2.0), abs=1e-3)


def test_rotation_keeps_length_and_leaves_the_rest_of_the_head() -> None:
    x = latents(1, 9, channels=4)[..., None].expand(1, 4, 9, 8).clone()
    turned = rotate(x, rotation(torch.arange(9.0)[None], 4))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[..., 4:], x[..., 4:], rtol=0, atol=0)
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0], rtol=0, atol=0)


def main_direction(scale: float) -> float:
    """Share of the variance of embedded time that lies in one direction."""
    embedded = sinusoids(torch.linspace(0, 1, 200), 512, scale)
    values = torch.linalg.svdvals((embedded - embedded.mean(0)).double()) ** 2
    return float(values[0] / values.sum())


def test_embedded_time_varies_with_time() -> None:
    assert main_direction(1.0) > 0.98  # the defect of the original
    assert main_direction(1000.0) < 0.2
    first, last = sinusoids(torch.tensor([0.0, 1.0]), 512, 1000.0)
    assert torch.cosine_similarity(first, last, dim=0) < 0.5


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 8, 14])
@pytest.mark.parametrize("legacy", [False, True])
def test_patches_go_back_to_where_they_came_from(frames: int, *, legacy: bool) -> None:
    x = latents(2, frames)
    grid = make_grid(frames, 4, None, CPU, legacy=legacy)
    torch.testing.assert_close(unpatchify(patchify(x, grid), grid), x, rtol=0, atol=0)


def test_the_frames_of_a_channel_lie_side_by_side() -> None:
    x = torch.arange(16.0).view(1, 2, 8)
    tokens = patchify(x, make_grid(8, 4, None, CPU))
    assert tokens.tolist() == [[[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]]


def test_no_patch_holds_padding_and_the_last_says_where_it_is() -> None:
    x = 1 + torch.arange(10.0).view(1, 1, 10)
    grid = make_grid(10, 4, None, CPU)
    assert patchify(x, grid).tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8], [7, 8, 9, 10]]]
    assert grid.positions.tolist() == [[0, 1, 1.5]]
    assert grid.keep is None
    legacy = make_grid(10, 4, None, CPU, legacy=True)
    assert patchify(x, legacy)[0, 2].tolist() == [9, 10, 0, 0]


def test_patches_of_unequal_lengths() -> None:
    x = 1 + torch.arange(9.0).repeat(3, 1, 1)
    x[1, :, 6:] = x[2, :, 2:] = torch.nan
    grid = make_grid(9, 4, torch.tensor([9, 6, 2]), CPU)
    tokens = patchify(x, grid)
    assert tokens[0].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [6, 7, 8, 9]]
    assert tokens[1, :2].tolist() == [[1, 2, 3, 4], [3, 4, 5, 6]]
    assert tokens[2, 0].tolist() == [1, 2, 0, 0]
    assert grid.keep is not None
    assert grid.keep.tolist() == [[True] * 3, [True, True, False], [True, False, False]]
    back = unpatchify(tokens, grid)
    assert back[1].tolist() == [[1, 2, 3, 4, 5, 6, 0, 0, 0]]
    assert back[2].tolist() == [[1, 2, 0, 0, 0, 0, 0, 0, 0]]


def test_dropped_paths_keep_the_mean_and_rest_in_evaluation() -> None:
    torch.manual_seed(0)
    path = DropPath(0.25)
    branch = torch.ones(4000, 3)
    dropped = path.train()(branch)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == dropped[:, :1]).all()  # whole samples
    assert dropped.mean() == pytest.approx(1, abs=0.04)
    assert path.eval()(branch) is branch


def test_sinusoids_are_sines_then_cosines() -> None:
    embedded = sinusoids(torch.tensor([0.5]), 4, 1000.0)[0]
    expected = [math.sin(500), math.sin(0.05), math.cos(500), math.cos(0.05)]
    assert embedded.tolist() == pytest.approx(expected, abs=1e-4)


def test_configs_are_values() -> None:
    assert replace(TINY) == TINY
    assert isinstance(hash(TINY), int)
    assert DiTConfig(**{**TINY.__dict__}) == TINY
