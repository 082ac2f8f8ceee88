"""The whole network: identity at start, padding, conditions, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_dit import OURS, SHAPES, TINY, TOKEN, WITH_TEXT, awake, conditions, latents
from torch import Tensor, nn

from jatsr_model.chance import Chance
from jatsr_model.dit import Conditions, DiT, DiTConfig
from jatsr_model.dit.ends import Skip
from shards.errors import ConfigError

every_shape = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
T = torch.tensor([0.2, 0.9])


def run(network: DiT, given: Conditions, frames: int, lengths: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return network(latents(2, frames), T, given, lengths)


@every_shape
def test_blocks_start_as_the_identity_and_the_output_at_zero(config: DiTConfig) -> None:
    torch.manual_seed(0)
    network = DiT(config)
    seen: list[Tensor] = []
    network.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    out = run(network, conditions(config, 2, 8), 8)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    assert seen[0].abs().max() > 0
    assert out.any() == config.skip


def test_a_skip_starts_as_the_best_guess_without_a_network() -> None:
    """The mean of data of variance 1, given data with noise: what least squares find."""
    torch.manual_seed(0)
    network, samples = DiT(OURS), 4000
    data, noise = torch.randn(2, samples, OURS.latent_dim, 4)
    given = conditions(OURS, samples, 4)
    for t in (0.1, 0.5, 0.8):
        noisy = (1 - t) * noise + t * data
        with torch.no_grad():
            out = network(noisy, torch.full((samples,), t), given)
        slope = (noisy * data).mean() / noisy.square().mean()
        torch.testing.assert_close(out, slope * noisy, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 1.0])
def test_a_skip_is_the_mean_of_a_normal_distribution_given_noise(t: float) -> None:
    """By the formula of conditional means: E z, cov(x, z) and var z."""
    torch.manual_seed(0)
    skip = Skip(OURS).requires_grad_(requires_grad=False)
    nn.init.normal_(skip.gain.bias)
    mean, deviation, noisy, low = torch.randn(4, 2, OURS.latent_dim, 8)
    deviation = deviation.exp()
    times, vector = torch.full((2,), t), torch.randn(2, OURS.hidden)
    found = torch.cat([mean, deviation.log()], dim=1)
    expected = mean + skip.gain.bias[:, None] * low
    covariance, variance = t * deviation**2, (t * deviation) ** 2 + (1 - t) ** 2
    expected = expected + covariance / variance * (noisy - t * expected)
    torch.testing.assert_close(skip(found, noisy, low, times, vector), expected)


@every_shape
@pytest.mark.parametrize("frames", [1, 4, 13])
def test_any_length_goes_in_and_comes_out(config: DiTConfig, frames: int) -> None:
    out = run(awake(config), conditions(config, 2, frames), frames)
    assert out.shape == (2, 6, frames)
    assert out.isfinite().all()


@every_shape
def test_padding_changes_nothing(config: DiTConfig) -> None:
    network = awake(config)
    given = conditions(config, 2, 19)
    noisy = latents(2, 19)
    lengths = torch.tensor([19, 10])
    noisy[1, :, 10:] = given.low[1, :, 10:] = torch.nan  # whatever lies there
    with torch.no_grad():
        out = network(noisy, T, given, lengths)
        alone = network(
            noisy[1:, :, :10],
            T[1:],
            Conditions(
                low=given.low[1:, :, :10],
                rolloff=given.rolloff[1:],
                text=given.text[1:],
                text_mask=given.text_mask[1:],
            ),
        )
    torch.testing.assert_close(out[1:, :, :10], alone, rtol=1e-4, atol=1e-5)
    assert not out[1, :, 10:].any()
    assert out[0].isfinite().all()


@every_shape
def test_padding_does_not_reach_gradients(config: DiTConfig) -> None:
    network = awake(config)
    given = conditions(config, 2, 19)
    noisy = latents(2, 19)
    noisy[1, :, 10:] = given.low[1, :, 10:] = torch.nan
    network(noisy, T, given, torch.tensor([19, 10])).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_samples_shorter_than_a_patch_fit_in() -> None:
    network = awake(OURS)
    given = conditions(OURS, 2, 8)
    out = run(network, given, 8, torch.tensor([8, 2]))
    assert out[1, :, :2].any()
    assert not out[1, :, 2:].any()


def test_legacy_knows_no_padding() -> None:
    network = awake(TINY, legacy=True)
    with pytest.raises(ConfigError, match="legacy"):
        run(network, conditions(TINY, 2, 8), 8, torch.tensor([8, 4]))


def test_legacy_differs_only_where_zeros_fill_up() -> None:
    legacy, ours = awake(TINY, legacy=True), awake(TINY)
    given = conditions(TINY, 2, 8)
    torch.testing.assert_close(run(legacy, given, 8), run(ours, given, 8), rtol=0, atol=0)
    given = conditions(TINY, 2, 10)
    assert (run(legacy, given, 10) - run(ours, given, 10)).abs().max() > 1e-3


@every_shape
def test_samples_of_a_batch_do_not_see_each_other(config: DiTConfig) -> None:
    network = awake(config)
    given = conditions(config, 2, 8)
    both = run(network, given, 8)
    changed = replace(given, low=torch.cat([given.low[:1], 3 * given.low[1:]]))
    again = run(network, changed, 8)
    torch.testing.assert_close(again[0], both[0])
    assert (again[1] - both[1]).abs().max() > 1e-3


@pytest.mark.parametrize("config", [TOKEN, OURS, WITH_TEXT], ids=["token", "ours", "text"])
def test_every_condition_acts_and_leaving_it_out_equals_not_giving_it(config: DiTConfig) -> None:
    network = awake(config)
    given = conditions(config, 2, 8)
    full = run(network, given, 8)
    named = {"rolloff": replace(given, rolloff=None)}
    if config.text_dim:
        named["text"] = replace(given, text=None)
    for name, absent in named.items():
        without = run(network, given.without(name), 8)
        torch.testing.assert_close(without, run(network, absent, 8), rtol=1e-4, atol=1e-6)
        assert (without - full).abs().max() > 1e-3
    assert (run(network, given.without("low"), 8) - full).abs().max() > 1e-3


def test_padding_of_captions_is_not_read() -> None:
    network = awake(WITH_TEXT)
    given = conditions(WITH_TEXT, 2, 8)
    text = given.text.clone()
    text[:, 3:] = 99.0
    torch.testing.assert_close(run(network, replace(given, text=text), 8), run(network, given, 8))
    text[:, 2] = 99.0
    assert (run(network, replace(given, text=text), 8) - run(network, given, 8)).abs().max() > 1e-3


def test_conditions_are_dropped_independently_and_stay_dropped() -> None:
    given = Conditions(low=torch.zeros(4000, 1, 1), has_text=torch.arange(4000) >= 1000)
    dropped = given.dropped(0.1, Chance(1, 0, range(4000)))
    assert dropped.has_low is not None
    assert dropped.has_rolloff is not None
    assert dropped.has_text is not None
    off = [~dropped.has_low, ~dropped.has_rolloff[:, 0], ~dropped.has_rolloff[:, 1]]
    assert [float(o.float().mean()) for o in off] == pytest.approx([0.1] * 3, abs=0.02)
    both = (off[0] & off[1]).float().mean()
    assert float(both) == pytest.approx(0.01, abs=0.006)
    assert not dropped.has_text[:1000].any()
    again = given.dropped(0.1, Chance(1, 0, range(4000)))
    assert torch.equal(again.has_low, dropped.has_low)


def test_condition_noise_has_the_ratio_it_says() -> None:
    given = Conditions(low=torch.zeros(8, 4, 1000))
    noisy = given.with_noise(0.05, Chance(0, 0, range(8)))
    assert float(noisy.low.std()) == pytest.approx(0.05, rel=0.03)


@every_shape
def test_every_parameter_learns_and_recomputing_gives_the_same_gradients(config: DiTConfig) -> None:
    network = awake(config).train()
    given = replace(  # each condition given to one sample, so that null vectors take part
        conditions(config, 2, 8),
        has_low=torch.tensor([True, False]),
        has_rolloff=torch.tensor([[True, False], [False, True]]),
    )
    gradients = []
    for network.recompute in (False, True):
        network.zero_grad()
        network(latents(2, 8), T, given).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())
        gradients.append([p.grad.clone() for p in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@every_shape
def test_autocast_gives_nearly_the_same(config: DiTConfig) -> None:
    network = awake(config)
    given = conditions(config, 2, 12)
    exact = run(network, given, 12)
    with torch.autocast("cpu", torch.bfloat16):
        rough = run(network, given, 12)
    assert (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("config", [TOKEN, WITH_TEXT], ids=["token", "text"])
def test_the_network_is_one_graph(config: DiTConfig) -> None:
    """Nothing waits for the device or leaves the compiled graph, also where lengths differ."""
    network = awake(config)
    given = conditions(config, 2, 10).dropped(0.5, Chance(0, 0, range(2)))
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    with torch.no_grad():
        found = compiled(latents(2, 10), T, given, torch.tensor([10, 6]))
    torch.testing.assert_close(found, run(network, given, 10, torch.tensor([10, 6])))
