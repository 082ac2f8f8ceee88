"""Weights and branches of guidance, and what a network has to have learned for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given as over
from hypothesis import strategies as st
from tiny_dit import WITH_TEXT, awake, conditions, latents

from jatsr_model.dit import Conditions
from jatsr_model.sampling import Branch, Guidance
from jatsr_model.sampling.guidance import combine, stacked
from shards.errors import ConfigError

scales = st.floats(0, 10)


@over(scales, st.none() | scales)
def test_weights_add_up_to_one(scale: float, text: float | None) -> None:
    branches = Guidance(scale=scale, text=text).branches
    assert sum(branch.weight for branch in branches) == pytest.approx(1)
    assert len({branch.without for branch in branches}) == len(branches)


def test_only_predictions_that_count_are_made() -> None:
    assert Guidance().branches == Guidance(text=1.0).branches == (Branch(1.0),)
    assert Guidance(scale=0.0, null=("text",)).branches == (Branch(1.0, ("text",)),)
    assert Guidance(scale=3.0).branches == (Branch(3.0), Branch(-2.0, ("low",)))
    saga = Guidance(scale=1.4, text=1.2).branches
    assert [branch.without for branch in saga] == [(), ("text",), ("low", "text")]
    assert [branch.weight for branch in saga] == pytest.approx([1.2, 0.2, -0.4])


@pytest.mark.parametrize(
    "guidance",
    [
        Guidance(scale=2.5),
        Guidance(scale=2.5, null=("low", "rolloff")),
        Guidance(scale=1.4, text=1.2),
        Guidance(scale=0.0, null=("text",)),
    ],
)
@pytest.mark.parametrize("partly", [False, True])
def test_one_batch_gives_what_single_calls_give(guidance: Guidance, partly: bool) -> None:
    network = awake(WITH_TEXT)
    z, t = latents(4, 10, seed=3), torch.full((4,), 0.4)
    given = conditions(WITH_TEXT, 4, 10)
    if partly:
        some = torch.tensor([True, False, True, True])
        given = replace(given, has_text=some, has_rolloff=some[:, None].expand(-1, 2))
    branches = guidance.branches
    count = len(branches)
    with torch.no_grad():
        joined = network(z.repeat(count, 1, 1), t.repeat(count), stacked(given, branches))
        single = [network(z, t, given.without(*without)) for _, without in branches]
    expected = sum(w * out for (w, _), out in zip(branches, single, strict=True))
    torch.testing.assert_close(combine(joined, branches), expected, rtol=1e-4, atol=1e-4)
    if count > 1:
        assert (single[0] - single[-1]).abs().max() > 0.01


def test_fields_that_no_branch_has_stay_away() -> None:
    given = Conditions(low=latents(2, 4))
    joined = stacked(given, Guidance(scale=2.0).branches)
    assert joined.low.shape == (4, 6, 4)
    assert joined.has_low is not None
    assert joined.has_low.tolist() == [True, True, False, False]
    assert joined.text is joined.rolloff is joined.has_text is joined.has_rolloff is None


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"scale": -1.0}, "--cfg -1.0"),
        ({"scale": float("nan")}, "--cfg nan"),
        ({"text": float("inf")}, "--cfg-text inf"),
        ({"null": ()}, "--cfg-null"),
        ({"null": ("lo",)}, "--cfg-null lo"),
    ],
)
def test_what_means_nothing_is_refused(settings: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        Guidance(**settings)


@pytest.mark.parametrize(
    ("guidance", "least"),
    [
        (Guidance(), 0.0),
        (Guidance(scale=2.0), 0.01),
        (Guidance(scale=2.0, null=("low", "low")), 0.01),
        (Guidance(scale=1.4, text=1.2), 0.1),
        (Guidance(scale=2.0, null=("rolloff",)), 0.1),
        (Guidance(scale=2.0, null=("low", "rolloff")), 0.2),
    ],
)
def test_a_null_must_have_been_learned(guidance: Guidance, least: float) -> None:
    guidance.require(least)
    if least:
        with pytest.raises(ConfigError, match="--condition-dropout"):
            guidance.require(least * 0.4)
