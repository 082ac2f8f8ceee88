"""The path, its conversions, the laws of time, the solvers: against what is known exactly."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from jatsr_model.chance import Chance
from jatsr_model.flow import SOLVERS, solve, time_law, to_data, to_noise, to_velocity, uniform_grid
from jatsr_model.flow.path import GUARD, interpolate, target
from jatsr_model.flow.times import TIME_LAWS, Tent, UShape, sample
from shards.errors import ConfigError

every_solver = pytest.mark.parametrize("solver", SOLVERS)


def pair(batch: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise, data = torch.randn(2, batch, 3, 7, generator=generator, dtype=torch.float64)
    return noise, data


def test_the_path_leads_from_noise_to_data() -> None:
    noise, data = pair(2)
    ends = interpolate(noise, data, torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.stack([noise[0], data[1]]), rtol=0, atol=0)
    torch.testing.assert_close(interpolate(noise, data, torch.tensor(0.5)), (noise + data) / 2)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 0.9995])
def test_predictions_convert_into_each_other_exactly(t: float) -> None:
    noise, data = pair()
    times = torch.full((5,), t, dtype=torch.float64)
    z = interpolate(noise, data, times)
    for kind in ("x", "v"):
        right = target(kind, noise, data)
        for convert, wanted in (
            (to_velocity, data - noise),
            (to_data, data),
            (to_noise, noise),
        ):
            torch.testing.assert_close(
                convert(kind, right, z, times), wanted, rtol=1e-9, atol=1e-12
            )


def test_times_of_a_batch_are_not_mixed_up() -> None:
    noise, data = pair(3)
    times = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    z = interpolate(noise, data, times)
    one_by_one = torch.cat(
        [to_velocity("x", data[i : i + 1], z[i : i + 1], times[i]) for i in range(3)]
    )
    torch.testing.assert_close(to_velocity("x", data, z, times), one_by_one)


def test_the_end_of_the_path_is_guarded() -> None:
    noise, data = pair()
    one = torch.ones(5, dtype=torch.float64)
    z = interpolate(noise, data, one)
    velocity = to_velocity("x", data + 1e-4, z, one)
    torch.testing.assert_close(velocity, torch.full_like(z, 1e-4 / GUARD))
    assert to_noise("x", data, z, one).isfinite().all()


@pytest.mark.parametrize("name", TIME_LAWS)
def test_times_follow_their_law(name: str) -> None:
    t = sample(time_law(name), Chance(1, 0, range(20_000)))
    assert t.dtype == torch.float32
    for other in TIME_LAWS:
        cdf = time_law(other).cdf
        found = stats.kstest(t.double().numpy(), lambda x, f=cdf: f(torch.as_tensor(x)).numpy())
        assert found.pvalue > 0.01 if other == name else found.pvalue < 1e-6


def densities(law: object, at: list[float]) -> list[float]:
    t = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (density,) = torch.autograd.grad(law.cdf(t).sum(), t)
    return density.tolist()


def test_densities_are_those_of_the_formulas() -> None:
    end, middle, other = densities(UShape(a=4.0), [0.0, 0.5, 1.0])
    assert end == pytest.approx(other)
    assert end / middle == pytest.approx((1 + torch.e**4) / (2 * torch.e**2))  # exp(at) + exp(-at)
    assert densities(Tent(), [0.1, 0.5, 0.8]) == pytest.approx([0.4, 2.0, 0.8])


def test_an_unknown_law_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="u-shape"):
        time_law("gaussian")


@every_solver
def test_a_cubic_of_time_is_integrated(solver: str) -> None:
    """dz/dt = 3 t^2 from 0 to 1 adds 1."""

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(z, 3.0) * t**2

    start = torch.zeros(2, 3, dtype=torch.float64)
    errors = [float((solve(solver, velocity, start, uniform_grid(n)) - 1).abs().max())
              for n in (20, 40)]  # fmt: skip
    order = {"euler": 2, "midpoint": 4, "heun": 4}[solver]
    assert errors[1] < 0.04
    assert errors[0] / errors[1] == pytest.approx(order, rel=0.1)


@every_solver
def test_one_gaussian_flows_into_another(solver: str) -> None:
    """Noise N(0, 1), data N(m, s^2): z_t ~ N(t m, (1-t)^2 + t^2 s^2), and z_0 ends at m + s z_0."""
    mean, deviation = 1.5, 0.4

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        variance = (1 - t) ** 2 + (t * deviation) ** 2
        return mean + (t * deviation**2 - (1 - t)) / variance * (z - t * mean)

    start = torch.linspace(-2, 2, 9, dtype=torch.float64)
    grid = 1 - (1 - uniform_grid(100)) ** 1.5  # not uniform
    end = solve(solver, velocity, start, grid)
    tolerance = 0.02 if solver == "euler" else 1e-3
    torch.testing.assert_close(end, mean + deviation * start, rtol=0, atol=tolerance)
    back = solve(solver, velocity, end, grid.flip(0))
    torch.testing.assert_close(back, start, rtol=0, atol=3 * tolerance)


@every_solver
def test_a_network_that_knows_the_data_is_followed_to_them(solver: str) -> None:
    noise, data = pair()

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        return to_velocity("x", data, z, t)

    end = solve(solver, velocity, noise, uniform_grid(10), avoid_end=True)
    torch.testing.assert_close(end, data, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", [[0.0], [0.0, 0.5, 0.5, 1.0], [0.0, 0.6, 0.4, 1.0]])
def test_grids_that_stand_still_or_turn_back_are_refused(grid: list[float]) -> None:
    with pytest.raises(ConfigError, match="rise or fall"):
        solve("euler", lambda z, t: z, torch.zeros(1), torch.tensor(grid))


def test_an_unknown_solver_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="midpoint"):
        solve("rk4", lambda z, t: z, torch.zeros(1), uniform_grid(2))
