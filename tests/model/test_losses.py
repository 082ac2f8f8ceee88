"""Losses: zero where the guess is right, hand-computed elsewhere; gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_dit import latents
from torch import Tensor

from jatsr_model.codecs import CodecConfig, load, resolve
from jatsr_model.losses import LOSSES, AudioConsistency, Guess, LossSum, gradient_ratios, losses_for
from jatsr_model.losses.terms import consistency, trusted_bands
from jatsr_model.losses.total import gate
from shards.errors import ConfigError

# Levels are those of another kind of network, and stand alone: see test_envelopes.py.
EVERY = {name: loss for name, loss in LOSSES.items() if name != "levels"}
EVERY["consistency"] = consistency
ALL = dict.fromkeys(EVERY, 1.0)
LATE = torch.ones(2)


def guess_of(found: Tensor, data: Tensor, **fields: Any) -> Guess:
    return Guess(output=found, target=data, data_hat=found, data=data, **fields)


def one(values: list[float]) -> Tensor:
    return torch.tensor(values)[None, None]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("frames", [1, 7, 16])
def test_a_right_guess_costs_nothing(name: str, frames: int) -> None:
    data = latents(2, frames)
    right = guess_of(data.clone(), data, low=data.clone(), cutoff=torch.tensor([0.5, 0.9]))
    assert EVERY[name](right).abs().max() < 1e-9
    wrong = replace(right, output=data + 0.1, data_hat=1.1 * data)
    assert (EVERY[name](wrong) > 1e-5).all()


def test_values_computed_by_hand() -> None:
    wrong = guess_of(one([1.0, 2.0, 3.0, 4.0]), one([1.0, 1.0, 1.0, 1.0]))
    assert LOSSES["mse"](wrong).item() == pytest.approx((0 + 1 + 4 + 9) / 4)
    expected = sum(math.sqrt(e**2 + 1e-6) - 1e-3 for e in (0, 1, 2, 3)) / 4
    assert LOSSES["charbonnier"](wrong).item() == pytest.approx(expected)
    # errors 0 1 2 3; over two frames 0.5 2.5; over four 1.5
    scales = (14 / 4, (0.25 + 6.25) / 2, 2.25)
    assert LOSSES["multiscale"](wrong).item() == pytest.approx(1.5 * sum(scales) / 3)


def test_spectral_values_computed_by_hand() -> None:
    # A constant of 4 frames is 2 in bin 0 of the orthonormal spectrum; three times that is 6.
    wrong = guess_of(one([3.0] * 4), one([1.0] * 4))
    logs = 0.5 * math.log((36 + 0.25) / (4 + 0.25))
    expected = 2 * (logs**2 / 4 + 0.1 * (6 - 2) ** 2 / 4)
    assert LOSSES["frequency"](wrong).item() == pytest.approx(expected, rel=1e-5)


def test_magnitudes_of_high_bins_do_not_mind_phase() -> None:
    time = torch.arange(32.0)
    high = [(torch.cos(2 * math.pi * 12 / 32 * time + phase))[None, None] for phase in (0, 1)]
    low = [(torch.cos(2 * math.pi * 2 / 32 * time + phase))[None, None] for phase in (0, 1)]
    assert LOSSES["frequency"](guess_of(*high)).item() < 1e-6
    assert LOSSES["frequency"](guess_of(*low)).item() > 0.01


def test_spectra_keep_energy() -> None:
    """With errors in the low band alone the phase term is a tenth of the MSE."""
    time = torch.arange(40.0)
    tone = torch.cos(2 * math.pi * 3 / 40 * time)[None, None]
    wrong = guess_of(1.001 * tone, tone)
    found = LOSSES["frequency"](wrong).item() / LOSSES["mse"](wrong).item()
    slope = (math.sqrt(10) / (10 + 0.25)) ** 2  # of log-magnitude, at a magnitude of sqrt(10)
    assert found == pytest.approx(2 * (slope + 0.1), rel=5e-3)


def test_bands_are_trusted_below_the_cutoff() -> None:
    weights = trusted_bands(torch.tensor([0.5, 1.0]), 100)
    assert weights[0, :45].tolist() == [1.0] * 45
    assert 0 < weights[0, 47] < 1
    assert not weights[0, 50:].any()
    assert weights[1, :90].tolist() == [1.0] * 90


def test_consistency_looks_at_trusted_bands_alone() -> None:
    data = latents(1, 5, channels=10)
    low = data.clone()
    low[:, 5:] = 7.0  # beyond the cutoff
    right = guess_of(data, data, low=low, cutoff=torch.tensor([0.5]))
    assert consistency(right).item() == 0
    shifted = data + torch.eye(10)[2][:, None]  # by 1 in a trusted channel
    wrong = guess_of(shifted, data, low=low, cutoff=torch.tensor([0.5]))
    assert consistency(wrong).item() == pytest.approx(1 / 10)
    with pytest.raises(ConfigError, match="cutoff"):
        consistency(guess_of(data, data))


@pytest.mark.parametrize("error", [0.02, 0.3])
@pytest.mark.parametrize("frames", [64, 513])
def test_weights_mean_what_they_say(error: float, frames: int) -> None:
    """Gradients at weight 1 are about as long as those of MSE, at any error and crop length."""
    data = latents(2, frames, channels=64)
    found = (data + error * latents(2, frames, seed=1, channels=64)).requires_grad_()
    guess = guess_of(found, data, low=data, cutoff=LATE)
    weights = {"mse": 1.0, "frequency": 0.15, "multiscale": 0.15, "consistency": 0.03}
    pulls = gradient_ratios(losses_for(weights, "mdct"), found, guess, LATE)
    for name, weight in weights.items():
        assert pulls[name].ratio == pytest.approx(weight, rel=0.25), name
        assert pulls[name].cosine > 0.6


def test_losses_on_the_spectrum_wait_for_late_times() -> None:
    assert gate(torch.tensor([0.0, 0.5, 0.625, 0.75, 1.0])).tolist() == [0, 0, 0.5, 1, 1]
    data = latents(2, 8)
    guess = guess_of(data + 1, data, low=data, cutoff=LATE)
    terms = losses_for(ALL, "mdct").terms(guess, torch.tensor([0.3, 0.9]))
    for name, values in terms.items():
        assert (values[0] > 0) == (name in ("mse", "charbonnier"))
        assert values[1] > 0


def test_the_total_is_the_weighted_mean_over_samples() -> None:
    losses = LossSum({"mse": 2.0, "charbonnier": 0.5, "frequency": 0.0})
    data = latents(2, 8)
    terms = losses.terms(guess_of(data + 1, data), LATE)
    assert terms.keys() == {"mse", "charbonnier"}
    assert losses.total(terms).item() == pytest.approx(2 * 1 + 0.5 * (1 - 1e-3), rel=1e-4)


def test_padding_costs_nothing_and_does_not_dilute() -> None:
    data, found = latents(2, 8), latents(2, 8, seed=1)
    losses = LossSum({"mse": 1.0, "charbonnier": 1.0})
    alone = losses.terms(guess_of(found[1:, :, :4], data[1:, :, :4]), LATE[1:])
    found[1, :, 4:] = torch.nan
    padded = losses.terms(guess_of(found, data), LATE, torch.tensor([8, 4]))
    for name, values in padded.items():
        assert values[1].item() == pytest.approx(alone[name].item(), rel=1e-5)
    everything = losses_for(ALL, "mdct")
    right = data.clone()
    right[1, :, 4:] = torch.nan
    guess = guess_of(right, data, low=data, cutoff=LATE)
    terms = everything.terms(guess, LATE, torch.tensor([8, 4]))
    assert all(value.abs().max() < 1e-6 for value in terms.values())


def test_half_precision_is_left_at_the_door() -> None:
    data = latents(2, 16).bfloat16()
    guess = guess_of(data + 0.5, data, low=data, cutoff=LATE)
    with torch.autocast("cpu", torch.bfloat16):
        terms = losses_for(ALL, "mdct").terms(guess, LATE)
    assert all(value.dtype == torch.float32 for value in terms.values())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"mse": 1, "mae": 1}, "mae"),
        ({"mse": -1}, "negative"),
        ({"frequency": 1}, "none of mse"),
        ({"mse": 1, "consistency": 0.03}, "unknown consistency"),  # which one follows from latents
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LossSum(weights)


def test_consistency_in_audio() -> None:
    codec = load(resolve(CodecConfig(name="mdct")))
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, 512, 24, generator=generator)
    low = data.clone()
    low[:, 300:] = 0  # the low-res signal ends at 0.59 of the band
    loss = AudioConsistency(decode=codec.decode, hop=512, frames=8, context=2)
    cutoff = torch.tensor([0.5, 0.5])
    right = guess_of(data, data, low=low, cutoff=cutoff)
    assert loss(right).max() < 1e-4
    found = data.clone().requires_grad_()
    quieter = replace(right, data_hat=found * torch.tensor([1.0, 0.0])[:, None, None])
    value = loss(quieter)
    assert value[0] < 1e-4
    assert value[1].item() == pytest.approx(1, abs=1e-3)
    changed = data.clone()
    changed[:, 400:] = 0  # beyond the cutoff
    assert loss(replace(right, data_hat=changed)).max() < 1e-3
    wrong = data.clone().requires_grad_()
    loss(replace(right, data_hat=0.5 * wrong)).sum().backward()
    assert wrong.grad is not None
    assert wrong.grad[:, :200].abs().sum() > 100 * wrong.grad[:, 400:].abs().sum()


def test_consistency_outside_of_mdct_needs_the_decoder() -> None:
    weights = {"mse": 1.0, "consistency": 0.03}
    audio = AudioConsistency(decode=lambda z: z.flatten(1), hop=1)
    assert losses_for(weights, "dac-z", audio).further == {"consistency": audio}
    assert losses_for(weights, "mdct", audio).further == {"consistency": consistency}
    assert not losses_for({"mse": 1.0, "consistency": 0.0}, "dac-z").further
    with pytest.raises(ConfigError, match="dac-z latents are no bands"):
        losses_for(weights, "dac-z")


def test_crops_of_audio_are_drawn() -> None:
    loss = AudioConsistency(
        decode=lambda z: z.flatten(1), hop=1, frames=4, context=1,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    starts = {loss._crop(20) for _ in range(60)}
    assert {start for start, _ in starts} == set(range(15))
    assert {length for _, length in starts} == {6}
    assert loss._crop(3) == (0, 3)


def test_crops_of_audio_lie_before_every_end() -> None:
    """And count as they are: a crop is as long however much padding is behind it."""
    loss = AudioConsistency(
        decode=lambda z: z.flatten(1), hop=1, frames=4, context=0,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    data = latents(2, 40, channels=1)
    guess = guess_of(0.5 * data, data, low=data, cutoff=LATE)
    losses = LossSum({"mse": 1.0, "consistency": 1.0}, {"consistency": loss})
    for _ in range(20):
        terms = losses.terms(guess, LATE, torch.tensor([40, 8]))
        assert terms["consistency"].tolist() == pytest.approx([0.25, 0.25], rel=1e-3)


def test_gradients_are_compared_without_padding() -> None:
    data = latents(2, 16)
    found = (data + latents(2, 16, seed=1)).requires_grad_()
    lengths = torch.tensor([16, 5])
    padded = data.clone()
    padded[1, :, 5:] = torch.nan
    pulls = gradient_ratios(
        LossSum({"mse": 1.0, "multiscale": 1.0}), found, guess_of(found, padded), LATE, lengths
    )
    assert pulls["mse"].ratio == pytest.approx(1)
    assert math.isfinite(pulls["multiscale"].ratio)
