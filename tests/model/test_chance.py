"""Random numbers of samples."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from jatsr_model.chance import Chance


def test_a_sample_has_its_numbers_wherever_it_stands() -> None:
    whole = Chance(7, 3, range(12))
    for purpose in ("noise", "time"):
        numbers = whole.normal(purpose, 3, 5)
        ranks = [Chance(7, 3, range(rank, 12, 4)).normal(purpose, 3, 5) for rank in range(4)]
        assert all(torch.equal(ranks[r], numbers[r::4]) for r in range(4))
        assert torch.equal(Chance(7, 3, [5]).uniform(purpose), whole.uniform(purpose)[5:6])


@pytest.mark.parametrize("other", [Chance(8, 3, range(4)), Chance(7, 4, range(4))])
def test_seeds_steps_places_and_purposes_are_independent(other: Chance) -> None:
    one = Chance(7, 3, range(4))
    numbers = [one.normal("noise", 500), other.normal("noise", 500), one.normal("low", 500)]
    rows = torch.cat(numbers)  # 12 rows that should know nothing of each other
    correlations = torch.corrcoef(rows) - torch.eye(12)
    assert correlations.abs().max() < 5 / 500**0.5


def test_the_numbers_follow_their_laws_within_and_across_samples() -> None:
    normal = Chance(0, 0, range(500)).normal("noise", 40).numpy()
    assert stats.kstest(normal.ravel(), "norm").pvalue > 0.01
    assert stats.kstest(normal[:, 0], "norm").pvalue > 0.01
    uniform = Chance(0, 0, range(5000)).uniform("time").numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 0.01


def test_channels_of_a_sample_are_samples() -> None:
    stereo = Chance(1, 2, [3, 5]).repeated(2)
    assert list(stereo.places) == [6, 7, 10, 11]
