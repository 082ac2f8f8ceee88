"""Sampling with a network that knows the answer: Gaussian data, whose flow is known exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tiny_dit import OURS, SHAPES, WITH_TEXT, awake, conditions, latents
from torch import Tensor, nn

from jatsr_model.dit import Conditions
from jatsr_model.flow import SOLVERS
from jatsr_model.sampling import Guidance, sample, time_grid
from shards.errors import ConfigError

DEVIATION, TEXT = 0.4, 0.7
both = pytest.mark.parametrize("prediction", ["x", "v"])
every_solver = pytest.mark.parametrize("solver", SOLVERS)


@dataclass
class Gaussian:
    """The best prediction where data are N(mean, DEVIATION^2) with a mean that conditions give.

    ``z_t`` is then N(t mean, (1 - t)^2 + t^2 DEVIATION^2), and noise n ends at
    mean + DEVIATION n. Means add up: that of ``low``, and TEXT where there is text.
    """

    prediction: str
    rows: list[int] = field(default_factory=list)

    def __call__(
        self, z: Tensor, t: Tensor, given: Conditions, lengths: Tensor | None = None
    ) -> Tensor:
        self.rows.append(len(z))
        mean = torch.zeros_like(z)
        for has, value in ((given.has_low, given.low), (given.has_text, TEXT)):
            on = torch.ones(len(z), dtype=torch.bool) if has is None else has
            mean = mean + on[:, None, None] * value
        t = t[:, None, None].to(z)
        variance = (1 - t) ** 2 + (t * DEVIATION) ** 2
        around = z - t * mean
        if self.prediction == "x":
            return mean + t * DEVIATION**2 / variance * around
        return mean + (t * DEVIATION**2 - (1 - t)) / variance * around


def start(batch: int = 3) -> tuple[Tensor, Conditions]:
    noise = latents(batch, 50, seed=1).double()
    return noise, Conditions(low=latents(batch, 50, seed=2).double())


@both
@every_solver
@pytest.mark.parametrize("grid", ["uniform", "linear-quadratic"])
def test_samples_have_the_mean_and_deviation_of_the_data(
    prediction: Any, solver: str, grid: str
) -> None:
    noise, given = start()
    steps = {"euler": 1000, "midpoint": 20, "heun": 200}[solver]
    found = sample(
        Gaussian(prediction), prediction, given, noise, steps=time_grid(grid, steps), solver=solver
    )
    mean = given.low + TEXT
    torch.testing.assert_close(found, mean + DEVIATION * noise, rtol=0, atol=5e-3)
    assert float((found - mean).std()) == pytest.approx(DEVIATION * float(noise.std()), rel=3e-3)


@both
@every_solver
def test_solvers_converge_as_their_order_says(prediction: Any, solver: str) -> None:
    noise, given = start()
    exact = given.low + TEXT + DEVIATION * noise
    error = [
        float((sample(Gaussian(prediction), prediction, given, noise, steps=n, solver=solver)
               - exact).abs().max())
        for n in (20, 40)
    ]  # fmt: skip
    order = {"euler": 1, "midpoint": 3, "heun": 2}[solver]  # midpoint: 2 for other flows
    assert error[0] / error[1] == pytest.approx(2**order, rel=0.15)


@both
def test_one_scale_moves_the_mean(prediction: Any) -> None:
    noise, given = start()
    for scale, null, mean in (
        (3.0, ("low",), TEXT + 3 * given.low),
        (0.0, ("low",), TEXT + 0 * given.low),
        (2.0, ("text",), given.low + 2 * TEXT),
        (2.0, ("low", "text"), 2 * (given.low + TEXT)),
    ):
        found = sample(
            Gaussian(prediction), prediction, given, noise,
            steps=100, solver="heun", guidance=Guidance(scale=scale, null=null),
        )  # fmt: skip
        torch.testing.assert_close(found, mean + DEVIATION * noise, rtol=0, atol=2e-3)


@both
def test_two_scales_move_the_mean_by_each(prediction: Any) -> None:
    noise, given = start()
    network = Gaussian(prediction)
    found = sample(
        network, prediction, given, noise,
        steps=100, solver="midpoint", guidance=Guidance(scale=1.4, text=1.2),
    )  # fmt: skip
    mean = 1.4 * given.low + 1.2 * TEXT
    torch.testing.assert_close(found, mean + DEVIATION * noise, rtol=0, atol=2e-3)
    assert set(network.rows) == {9}
    assert len(network.rows) == 200


@both
def test_only_heun_would_ask_for_the_end(prediction: Any) -> None:
    """A network that predicts data is not asked there: its last step is Euler's."""
    noise, given = start()
    for solver, calls in (("euler", 5), ("midpoint", 10), ("heun", 9 + (prediction == "v"))):
        network = Gaussian(prediction)
        sample(network, prediction, given, noise, steps=5, solver=solver)
        assert len(network.rows) == calls


@both
def test_scale_one_is_no_guidance(prediction: Any) -> None:
    noise, given = start()
    plain, network = Gaussian(prediction), Gaussian(prediction)
    expected = sample(plain, prediction, given, noise, steps=7)
    found = sample(network, prediction, given, noise, steps=7, guidance=Guidance(scale=1.0))
    assert torch.equal(found, expected)
    assert network.rows == plain.rows == [3] * 7


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("guidance", [Guidance(), Guidance(scale=1.5)])
def test_a_sample_depends_on_nothing_beside_it(shape: str, guidance: Guidance) -> None:
    network, lengths = awake(SHAPES[shape]), torch.tensor([5, 16, 1, 11])
    noise, given = latents(4, 16, seed=5), conditions(SHAPES[shape], 4, 16)
    together = sample(
        network, "x", given, noise, steps=4, solver="heun", guidance=guidance, lengths=lengths
    )
    for k, length in enumerate(lengths.tolist()):
        own = {
            name: value[k : k + 1, ..., :length] if name == "low" else value[k : k + 1]
            for name, value in vars(given).items()
            if value is not None
        }
        alone = sample(
            network, "x", Conditions(**own), noise[k : k + 1, :, :length],
            steps=4, solver="heun", guidance=guidance,
        )  # fmt: skip
        torch.testing.assert_close(together[k : k + 1, :, :length], alone, rtol=1e-3, atol=1e-3)
        assert not together[k, :, length:].any()


def test_behind_the_end_there_is_nothing_whatever_a_network_says() -> None:
    noise, given = start()
    found = sample(Gaussian("v"), "v", given, noise, steps=2, lengths=torch.tensor([50, 1, 20]))
    assert (found.abs().sum(1) > 0).sum(1).tolist() == [50, 1, 20]


def test_a_network_samples_without_dropout_and_trains_on_as_before() -> None:
    network = awake(OURS, dropout=0.5, drop_path=0.5).train()
    network.head.eval()
    modes = [module.training for module in network.modules()]
    noise, given = latents(2, 8), conditions(OURS, 2, 8)
    first, second = (sample(network, "x", given, noise, steps=2) for _ in range(2))
    assert torch.equal(first, second)
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(ConfigError, match="--solver"):
        sample(network, "x", given, noise, steps=2, solver="rk4")
    assert [module.training for module in network.modules()] == modes


def test_samples_are_ordinary_tensors_without_a_past() -> None:
    network = awake(OURS)
    found = sample(network, "x", conditions(OURS, 2, 8), latents(2, 8), steps=2)
    assert not found.requires_grad
    assert not found.is_inference()
    assert all(parameter.requires_grad for parameter in network.parameters())


class Half(nn.Module):
    """Answers as under autocast."""

    def forward(self, z: Tensor, t: Tensor, given: Conditions, lengths: Tensor | None) -> Tensor:
        assert z.dtype == t.dtype == torch.float32
        return Gaussian("v")(z, t, given, lengths).bfloat16()


@every_solver
def test_autocast_does_not_reach_the_arithmetic(solver: str) -> None:
    noise, given = start()
    given = Conditions(low=given.low.float())
    guidance = Guidance(scale=1.4, text=1.2)
    options: dict[str, Any] = {"steps": 5, "solver": solver, "guidance": guidance}
    expected = sample(Half(), "v", given, noise.float(), **options)
    with torch.autocast("cpu", torch.bfloat16):
        found = sample(Half(), "v", given, noise.float(), **options)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert not torch.equal(found, found.bfloat16().float())


def test_half_noise_is_followed_in_float32() -> None:
    noise, given = start()
    found = sample(Half(), "v", Conditions(low=given.low.float()), noise.half(), steps=3)
    assert found.dtype == torch.float32


def test_a_real_network_with_text_takes_both_scales_under_autocast() -> None:
    network = awake(WITH_TEXT)
    noise, given = latents(2, 9), conditions(WITH_TEXT, 2, 9)
    guidance = Guidance(scale=1.4, text=1.2)
    exact = sample(network, "x", given, noise, steps=4, guidance=guidance)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sample(network, "x", given, noise, steps=4, guidance=guidance)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1 * float(exact.abs().max()))


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        (0, "--steps 0"),
        (-5, "--steps -5"),
        (torch.linspace(0, 0.9, 5), "from t = 0 to t = 1"),
        (torch.linspace(1, 0, 5), "from t = 0 to t = 1"),
        (torch.ones(1), "from t = 0 to t = 1"),
        (torch.tensor([0, 0.5, 0.5, 1]), "rise or fall"),
    ],
)
def test_times_that_do_not_lead_to_data_are_refused(steps: Any, match: str) -> None:
    noise, given = start()
    with pytest.raises(ConfigError, match=match):
        sample(Gaussian("x"), "x", given, noise, steps=steps)
