"""Noise by place: windows agree, and the numbers are normal and independent."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jatsr_model.sampling import noise_field
from jatsr_model.sampling.noise import BLOCK

FIRST, FRAMES, CHANNELS = -600, 1800, 5
WHOLE = noise_field(7, "track", FIRST, FRAMES, CHANNELS)


@given(st.integers(0, FRAMES), st.integers(0, FRAMES), st.integers(1, CHANNELS))
def test_any_window_is_a_slice_of_the_whole(a: int, b: int, channels: int) -> None:
    first, last = sorted((a, b))
    window = noise_field(7, "track", FIRST + first, last - first, channels)
    assert window.dtype == torch.float32
    assert torch.equal(window, WHOLE[:channels, first:last])


@pytest.mark.parametrize("start", [2**40 + 3, -(2**40)])
def test_windows_agree_far_away(start: int) -> None:
    whole = noise_field(0, "far", start, 700, 2)
    assert torch.equal(noise_field(0, "far", start + 300, 300, 2), whole[:, 300:600])
    assert whole.abs().max() > 2


def test_the_numbers_are_normal() -> None:
    field = noise_field(1, "law", 0, 40 * BLOCK, 16)
    assert stats.kstest(field.flatten().double().numpy(), "norm").pvalue > 0.01
    for part in (field[:, ::BLOCK], field[:, BLOCK // 2 :: BLOCK]):
        assert stats.kstest(part.flatten().double().numpy(), "norm").pvalue > 0.01
    assert field.abs().max() > 4


def test_places_seeds_and_keys_are_independent() -> None:
    """Correlations of 2**16 pairs are within 5 / 2**8 of zero."""
    frames = 2**12
    one = noise_field(1, "a", 0, frames, 16)
    others = {
        "seed": noise_field(2, "a", 0, frames, 16),
        "key": noise_field(1, "b", 0, frames, 16),
        "seed in key": noise_field(1, "\x001a", 0, frames, 16),
        "negative seed": noise_field(-1, "a", 0, frames, 16),
        "next channel": one.roll(1, 0),
        **{f"{lag} frames": one.roll(lag, 1) for lag in (1, BLOCK // 2, BLOCK)},
    }
    for name, other in others.items():
        for x, y in ((one, other), (one**2 - 1, other**2 - 1)):
            assert abs(float((x * y).mean())) < 5 * 2 / 2**8, name


def test_the_definition_stays() -> None:
    """Sampled audio could not be made again with other numbers."""
    found = noise_field(0, "jatsr", 255, 2, 2)
    expected = torch.tensor([[-0.9927644, -0.1593547], [-0.4519162, 0.4596887]])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(found, noise_field(0, b"jatsr", 255, 2, 2))
