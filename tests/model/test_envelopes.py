"""Networks that tell envelopes: what they learn from, and the sound that is made of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_dit import OURS, awake, conditions, latents
from torch import Tensor

from jatsr_data import Normaliser
from jatsr_data.normalise import Scale
from jatsr_model.chance import Chance
from jatsr_model.codecs import CodecConfig, load, resolve
from jatsr_model.dit import Conditions, DiTConfig, preset
from jatsr_model.envelopes import energies, features, filled, held
from jatsr_model.flow import Objective, time_law
from jatsr_model.flow.objective import Truth
from jatsr_model.losses import LOSSES, Guess, LossSum
from jatsr_model.sampling import fill
from shards.errors import ConfigError

TELLING = replace(
    OURS, entry="levels", modulation="token", skip=False, rolloff_dim=0, power=4, band=2
)
powers = pytest.mark.parametrize("power", [2, 4])


def drawn(power: int, *shape: int, seed: int = 0) -> Tensor:
    """Data of level 0, as ``filled`` makes them."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.copysign(noise.abs() ** (2 / power), noise)


def loss_of(level: Tensor, data: Tensor, power: int, lengths: Tensor | None = None) -> Tensor:
    guess = Guess(output=level, target=data, data_hat=data, data=data, level=level, power=power)
    return LossSum({"levels": 1.0}).terms(guess, torch.zeros(len(data)), lengths)["levels"]


def objective(**changes: Any) -> Objective:
    fields: dict[str, Any] = {
        "prediction": "envelope",
        "times": time_law("uniform"),
        "losses": LossSum({"levels": 1.0}),
        "power": 4,
    }
    return Objective(**{**fields, **changes})


@powers
def test_the_level_that_is_learned_is_that_of_the_data(power: int) -> None:
    """Least squares over many neighbourhoods; the envelope may rise from channel to channel."""
    truth = torch.linspace(-1.5, 1.0, 64)[None, :, None]
    data = torch.exp(truth) * drawn(power, 4, 64, 192)
    level = torch.zeros(1, 64, 1, requires_grad=True)
    optimizer = torch.optim.Adam([level], lr=0.05)
    for _ in range(200):
        loss = loss_of(level.expand_as(data), data, power).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    error = (level.detach() - truth).squeeze()
    assert error.mean().abs() < 0.03
    assert error.abs().max() < 0.15


def test_the_level_of_unforeseen_bursts_is_that_of_their_spectra() -> None:
    """One level for all: noise of it has the mean log power of windows of 2048 samples."""
    rng = torch.Generator().manual_seed(1)
    loud = torch.rand(4, 1, 400, generator=rng) < 0.1
    data = drawn(4, 4, 512, 400) * torch.where(loud, 1.0, 0.2)
    level = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([level], lr=0.05)
    for _ in range(150):
        loss = loss_of(level.expand_as(data), data, 4).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made = torch.exp(level.detach()) * drawn(4, 4, 512, 400, seed=2)
    codec, window = load(resolve(CodecConfig(name="mdct"))), torch.hann_window(2048)
    wanted, found = (
        torch.stft(codec.decode(z), 2048, 512, window=window, return_complex=True).abs().log10()
        for z in (data, made)
    )
    assert 2 * (wanted.mean() - found.mean()).abs() < 0.1
    assert (energies(made, 4).mean() / energies(data, 4).mean()).log10() < -0.2  # no mean of powers


def test_what_is_behind_the_end_of_a_sample_does_not_count() -> None:
    data, level = drawn(4, 2, 32, 64), latents(2, 64, channels=32)
    padded = torch.cat([data, torch.full((2, 32, 20), torch.nan)], 2)
    told = torch.cat([level, torch.full((2, 32, 20), 3.0)], 2)
    found = loss_of(told, padded, 4, torch.tensor([64, 64]))
    torch.testing.assert_close(found, loss_of(level, data, 4), rtol=0.02, atol=0)


@powers
def test_what_is_made_of_an_envelope_has_its_energy(power: int) -> None:
    level = torch.tensor([-1.0, 0.5])[None, :, None].expand(1, 2, 20_000)
    noise = torch.randn(level.shape, generator=torch.Generator().manual_seed(1))
    made = filled(level, torch.zeros_like(level), noise, power)
    expected = torch.exp(power * level[0, :, 0])
    torch.testing.assert_close(energies(made, power).mean(2)[0], expected, rtol=0.06, atol=0)


@powers
def test_a_frame_is_spread_over_its_neighbours(power: int) -> None:
    """A quarter of its energy to either side; where all are equal, nothing changes."""
    level = torch.full((1, 64, 32), -2.0)
    level[:, :, 10] = 1.0
    ones = torch.ones(level.shape)
    made = energies(filled(level, torch.zeros_like(level), ones, power), power)[0, 30]
    assert float(made.sum()) == pytest.approx(
        float(torch.exp(power * level[0, 30]).sum()), rel=1e-4
    )
    shares = made[9:12] / math.exp(power)
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.5, 0.25]), rtol=0, atol=0.02)
    torch.testing.assert_close(made[20:], torch.full((12,), math.exp(-2 * power)))


def test_what_is_told_behind_the_end_does_not_leak_into_a_sample() -> None:
    level, low = torch.zeros(1, 6, 12), torch.zeros(1, 6, 12)
    loud, noise, lengths = level.clone(), latents(1, 12), torch.tensor([8])
    loud[..., 8:] = 5.0
    quiet = filled(level, low, noise, 4, lengths)
    assert torch.equal(filled(loud, low, noise, 4, lengths)[..., :8], quiet[..., :8])
    assert not torch.equal(filled(loud, low, noise, 4)[..., :8], quiet[..., :8])


@powers
def test_what_is_within_6_db_of_the_envelope_is_kept_as_it_is(power: int) -> None:
    level = torch.zeros(1, 6, 12)
    low = torch.full_like(level, 0.26 ** (1 / power))  # of the energy, everywhere
    noise = latents(1, 12)
    inside = filled(level, low, noise, power)[:, 1:-1, 1:-1]
    assert torch.equal(inside, low[:, 1:-1, 1:-1])
    silent = filled(level, 0 * low, noise, power)
    assert (silent != 0).all()


@powers
def test_features_are_levels_of_bands_computed_by_hand(power: int) -> None:
    low = latents(2, 9, channels=5)
    found = features(low, power, 2)
    energy = np.abs(low.double().numpy()) ** power
    padded = np.pad(energy, ((0, 0), (0, 1), (1, 1)))
    pooled = np.stack([padded[:, :, k : k + 9] for k in range(3)]).mean(0)
    loud = np.log(pooled.reshape(2, 3, 2, 9).mean(2) + 3e-3**power)
    single = np.log(energy + 3e-3**power)
    single = np.pad(single, ((0, 0), (0, 1), (1, 1)), mode="edge")
    typical = np.stack([single[:, :, k : k + 9] for k in range(3)]).mean(0)
    typical = typical.reshape(2, 3, 2, 9).mean(2)
    expected = np.concatenate([loud, typical], axis=1) * 2 / (3 * power) + 1.5
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert features(torch.zeros(1, 4, 3), power, 2).max() < -2


@powers
def test_holes_of_a_codec_are_heard_that_leave_the_energy_of_a_band(power: int) -> None:
    low = latents(1, 12, channels=4).abs() + 0.1
    holes = low.clone()
    holes[:, 1] = 0
    holes[:, 0] = (low[:, 0] ** power + low[:, 1] ** power) ** (1 / power)
    before, after = features(low, power, 4)[0], features(holes, power, 4)[0]
    torch.testing.assert_close(after[0], before[0])
    assert (after[1] < before[1]).all()


def test_above_a_cutoff_the_last_levels_below_it_are_held() -> None:
    levels = latents(3, 4, channels=20)
    cutoff = torch.tensor([0.55, 0.1, 1.0])
    found = held(levels, cutoff)
    for crop, stop in enumerate((5, 3, 10)):  # three rows are the least
        *kinds, told = found[crop].split(10)
        for own, given in zip(kinds, levels[crop].split(10), strict=True):
            assert torch.equal(own[:stop], given[:stop])
            expected = given[stop - 3 : stop].mean(0).expand(10 - stop, 4)
            torch.testing.assert_close(own[stop:], expected)
        assert (told[:stop] == 1).all()
        assert (told[stop:] == -1).all()
    assert torch.equal(held(levels, None)[:, :20], levels)


def test_what_a_filter_leaves_above_the_cutoff_changes_nothing() -> None:
    network = awake(replace(TELLING, latent_dim=16, cutoff=True))
    low = latents(1, 8, channels=16)
    given = Conditions(low=low, cutoff=torch.tensor([0.5]))
    left = torch.cat([low[:, :8], 0.01 * low[:, 8:]], dim=1)
    with torch.no_grad():
        first, second, third = (
            network(latents(1, 8, channels=16), torch.zeros(1), each)
            for each in (given, replace(given, low=left), replace(given, cutoff=None))
        )
    torch.testing.assert_close(first, second)
    assert not torch.equal(first, third)


def test_with_a_cutoff_the_levels_above_it_count_most() -> None:
    data = drawn(4, 2, 32, 64)
    level, wrong_below, wrong_above = (
        torch.zeros(2, 32, 64),
        torch.zeros(2, 32, 64),
        torch.zeros(2, 32, 64),
    )
    wrong_below[:, :16], wrong_above[:, 16:] = 1.0, 1.0
    cutoff = torch.tensor([0.5, 0.5])

    def loss(level: Tensor, cutoff: Tensor | None) -> float:
        guess = Guess(output=level, target=data, data_hat=data, data=data, level=level, power=4,
                      cutoff=cutoff)  # fmt: skip
        return float(LOSSES["levels"](guess).mean())

    below, above = loss(wrong_below, cutoff), loss(wrong_above, cutoff)
    right = loss(level, cutoff)
    assert above - right > 8 * (below - right) > 0
    assert loss(wrong_below, None) == pytest.approx(loss(wrong_above, None), rel=0.2)


def test_a_network_for_envelopes_knows_neither_noise_nor_time() -> None:
    network, given = awake(TELLING), conditions(TELLING, 2, 8)
    with torch.no_grad():
        first = network(latents(2, 8, seed=5), torch.tensor([0.1, 0.7]), given)
        other = network(latents(2, 8, seed=6), torch.tensor([0.1, 0.7]), given)
        changed = network(latents(2, 8), torch.ones(2), replace(given, low=2 * given.low))
    assert first.shape == (2, 6, 8)
    assert torch.equal(first, other)
    assert not torch.equal(first, changed)


def test_what_lies_behind_the_end_of_a_sample_changes_nothing() -> None:
    network, lengths = awake(TELLING), torch.tensor([8, 5])
    given = conditions(TELLING, 2, 8)
    other = given.low.clone()
    other[1, :, 5:] = torch.nan
    with torch.no_grad():
        found, again = (
            network(torch.zeros(2, 6, 8), torch.zeros(2), replace(given, low=low), lengths)
            for low in (given.low, other)
        )
    assert torch.equal(found, again)
    assert not found[1, :, 5:].any()
    data = latents(2, 8)
    losses = []
    for junk in (0.0, 7.0):
        level = found.clone()
        level[1, :, 5:] = junk
        losses.append(loss_of(level, data, 4, lengths))
    assert torch.equal(*losses)


def test_a_network_learns_where_its_input_says_how_loud_the_rest_is() -> None:
    """The upper channels are as loud as the lower ones, of which alone the input consists."""
    config = replace(TELLING, latent_dim=8, patch=2, hidden=32, mlp_hidden=64)
    network = awake(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    history = []
    for step in range(150):
        loud = torch.exp(torch.randn(8, 1, 1, generator=generator))
        data = loud * drawn(4, 8, 8, 16, seed=step)
        low = data.clone()
        low[:, 4:] = 0
        truth, given = Truth(data=data), replace(conditions(config, 8, 16), low=low)
        done = objective().step(network, truth, given, Chance(0, step, range(8)))
        optimizer.zero_grad()
        done.loss.backward()
        optimizer.step()
        history.append(done.loss.item())
    assert sum(history[-20:]) < 0.6 * sum(history[:20])


@pytest.mark.parametrize(
    ("prediction", "weights"),
    [("envelope", {"mse": 1.0}), ("x", {"levels": 1.0}), ("v", {"mse": 1.0, "levels": 1.0}),
     ("envelope", {"levels": 1.0, "mse": 1.0})],
)  # fmt: skip
def test_envelopes_are_learned_from_levels_alone(
    prediction: Any, weights: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match=r"--loss .*envelopes"):
        objective(prediction=prediction, losses=LossSum(weights))


def test_levels_need_a_network_that_tells_them() -> None:
    data = latents(1, 4)
    with pytest.raises(ConfigError, match="mdct-envelope"):
        LOSSES["levels"](Guess(output=data, target=data, data_hat=data, data=data))


def test_filling_leaves_the_input_where_it_is_and_fills_the_rest() -> None:
    codec = load(resolve(CodecConfig(name="mdct")))
    ones, zeros = torch.ones(512), torch.zeros(512)
    normaliser = Normaliser(codec, "latents", Scale(zeros, 2 * ones), Scale(zeros, ones))
    config = replace(
        preset("mdct-envelope").config, hidden=32, heads=2, kv_heads=1, mlp_hidden=32, depth=1
    )
    network = awake(config)
    low = latents(2, 10, channels=512)
    low[:, 100:] = 0
    given = replace(conditions(TELLING, 2, 10), low=low, cutoff=torch.full((2,), 100 / 512))
    noise = latents(2, 10, seed=3, channels=512)
    lengths = torch.tensor([10, 6])
    data = fill(network, normaliser, given, noise, lengths)
    assert data.shape == noise.shape
    assert data.isfinite().all()
    assert not data[1, :, 6:].any()
    assert (data[0, 120:] != 0).all()
    alone = replace(given, low=low[:1], cutoff=given.cutoff[:1], rolloff=given.rolloff[:1])
    one = fill(network, normaliser, alone, noise[:1])
    torch.testing.assert_close(one[0], data[0], rtol=1e-4, atol=1e-5)
    assert not network.training


@pytest.mark.parametrize(
    "changes", [{"power": 3}, {"band": 0}, {"cutoff": True, "entry": "linear"}]
)
def test_shapes_that_cannot_be_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        DiTConfig(**{**vars(TELLING), **changes})


def test_the_envelope_depends_on_what_is_told_of_the_target_alone() -> None:
    network, given = awake(replace(TELLING, rolloff_dim=8)), conditions(TELLING, 2, 10)
    levels = []
    for target in (0.2, 0.8):
        told = replace(given, rolloff=torch.tensor([[0.1, target]] * 2))
        levels += [network(given.low, torch.zeros(2), some) for some in (told, told.untold())]
    low, untold, high, same = levels
    assert not torch.allclose(low, high)
    assert not torch.allclose(low, untold)
    assert torch.equal(untold, same)
    some = torch.tensor([[False, True], [True, True]])
    assert replace(given, has_rolloff=some).untold().has_rolloff.tolist() == [
        [False, False], [True, False],
    ]  # fmt: skip


def test_brightness_is_left_out_as_often_as_is_wished_and_the_input_never() -> None:
    seen: list[Conditions] = []

    def network(noisy: Tensor, t: Tensor, given: Conditions, lengths: object) -> Tensor:
        seen.append(given)
        return torch.zeros_like(noisy)

    truth = Truth(data=latents(400, 8, channels=4))
    given = Conditions(low=truth.data, rolloff=torch.full((400, 2), 0.5))
    goal = objective(condition_dropout=0.25)
    goal.step(network, truth, given, Chance(0, 0, range(400)))
    goal.evaluate(network, truth, given, truth.data, torch.zeros(400))
    dropped, whole = seen
    assert dropped.has_low is whole.has_low is whole.has_rolloff is None
    assert dropped.has_rolloff is not None
    left_out = (~dropped.has_rolloff).float().mean(0)
    torch.testing.assert_close(left_out, torch.full((2,), 0.25), rtol=0, atol=0.08)
