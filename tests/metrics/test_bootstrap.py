"""Intervals of means."""

from __future__ import annotations

import numpy as np
import pytest

from jatsr_model.metrics import bootstrap as module
from jatsr_model.metrics.bootstrap import bootstrap


def test_few_values():
    assert bootstrap(np.array([]), 0, 100) is None
    assert bootstrap(np.array([np.nan]), 0, 100) is None
    assert bootstrap(np.array([np.nan, 3.0]), 0, 100) == (3.0, None, None, 1)
    assert bootstrap(np.array([2.0, 2.0, np.nan]), 0, 100) == (2.0, 2.0, 2.0, 2)


def test_it_is_seeded_and_does_not_depend_on_blocks(monkeypatch):
    values = np.random.default_rng(3).standard_normal(50)
    first = bootstrap(values, 7, 1000)
    assert bootstrap(values, 7, 1000) == first
    assert bootstrap(values, 8, 1000) != first
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", 333)
    assert bootstrap(values, 7, 1000) == first


def test_it_moves_and_scales_with_the_values():
    values = np.random.default_rng(3).standard_normal(50)
    plain, moved = bootstrap(values, 0, 500), bootstrap(5 + 2 * values, 0, 500)
    np.testing.assert_allclose(moved[:3], 5 + 2 * np.array(plain[:3]))


def test_it_covers_the_truth_nearly_as_often_as_it_says():
    random = np.random.default_rng(1)
    found = [bootstrap(random.standard_normal(60), 0, 400) for _ in range(300)]
    covered = np.mean([mean.low <= 0 <= mean.high for mean in found])
    assert 0.90 < covered < 0.98
    widths = [mean.high - mean.low for mean in found]
    assert np.mean(widths) == pytest.approx(2 * 1.96 / np.sqrt(60), rel=0.05)
