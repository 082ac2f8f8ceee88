"""ViSQOL and OpenL3: said to be missing where they are missing, else used as they document."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg

from jatsr_model.metrics.evaluation import Evaluation, Pending
from jatsr_model.metrics.measure import Extras
from jatsr_model.metrics.openl3 import SIZE, Moments, OpenL3, frechet_distance, open_openl3
from jatsr_model.metrics.report import as_text
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.sounds import Case, Sound
from jatsr_model.metrics.visqol import Visqol, open_visqol


def moments(points):
    found = Moments(points.shape[1])
    for part in np.array_split(points, 3):
        found.add(part)
    return found


def test_the_distance_of_a_shift_and_a_scale():
    """|shift|^2 + sum of (s1 - s2)^2 for covariances that commute."""
    points = np.random.default_rng(0).standard_normal((500, 3))
    shift = np.array([3, 0, 4])
    first = moments(points)
    assert frechet_distance(first, moments(points)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, moments(points + shift)) == pytest.approx(25)
    scaled = moments(2 * (points - points.mean(0)) + points.mean(0))
    assert frechet_distance(first, scaled) == pytest.approx(np.trace(first.covariance))


def test_the_distance_against_another_implementation():
    random = np.random.default_rng(1)
    one = random.standard_normal((200, 6)) @ random.standard_normal((6, 6))
    two = random.standard_normal((300, 6)) @ random.standard_normal((6, 6)) + 1
    product = np.cov(one.T) @ np.cov(two.T)
    gap = np.square(one.mean(0) - two.mean(0)).sum()
    expected = gap + np.trace(
        np.cov(one.T) + np.cov(two.T) - 2 * np.real(scipy.linalg.sqrtm(product))
    )
    assert frechet_distance(moments(one), moments(two)) == pytest.approx(expected)


def test_fewer_points_than_dimensions_are_no_obstacle_and_one_is_too_few():
    few = np.random.default_rng(0).standard_normal((4, 30))
    assert frechet_distance(moments(few), moments(few + 1)) == pytest.approx(30)
    assert frechet_distance(moments(few), moments(few[:1])) is None
    assert frechet_distance(Moments(30), moments(few)) is None


@pytest.mark.parametrize(
    ("name", "opened", "package"),
    [("visqol", open_visqol, "'jatsr[visqol]'"), ("openl3", open_openl3, "openl3")],
)
def test_what_is_not_installed_is_named(monkeypatch, name, opened, package):
    monkeypatch.setitem(sys.modules, name, None)
    assert opened() == f"not installed: pip install {package}"


def test_another_package_called_visqol_is_not_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "visqol", SimpleNamespace())
    assert "another package" in open_visqol()


class FakeVisqol:
    """What visqol-python documents."""

    def create(self, mode):
        assert mode == "audio"

    def measure_from_arrays(self, reference, estimate, rate):
        assert reference.dtype == estimate.dtype == np.float64
        assert rate == 48000
        if len(reference) < 24_000:
            raise ValueError("Too few samples")
        return SimpleNamespace(moslqo=5 - np.abs(reference - estimate).max())


def test_visqol_is_asked_as_it_documents(monkeypatch):
    monkeypatch.setitem(sys.modules, "visqol", SimpleNamespace(VisqolApi=FakeVisqol))
    visqol = open_visqol()
    assert isinstance(visqol, Visqol)
    wave = np.zeros(48_000, np.float32)
    assert visqol.score(wave, wave + np.float32(0.5)) == 4.5
    assert math.isnan(visqol.score(wave[:100], wave[:100]))


def fake_openl3():
    """What openl3 documents, with the mean of each window as its embedding."""

    def embed(audio, sr, model, hop_size, verbose):
        assert (sr, model, verbose) == (48000, "model", False)
        step = int(hop_size * sr)
        frames = audio[: len(audio) // step * step].reshape(-1, step)
        return np.repeat(frames.mean(1, keepdims=True), SIZE, 1), None

    def load_audio_embedding_model(input_repr, content_type, embedding_size):
        assert (input_repr, content_type, embedding_size) == ("mel128", "music", SIZE)
        return "model"

    models = SimpleNamespace(load_audio_embedding_model=load_audio_embedding_model)
    return SimpleNamespace(models=models, get_audio_embedding=embed)


def test_openl3_is_asked_as_it_documents(monkeypatch):
    monkeypatch.setitem(sys.modules, "openl3", fake_openl3())
    openl3 = open_openl3()
    assert isinstance(openl3, OpenL3)
    assert openl3.embed(np.ones(120_000, np.float32)).shape == (5, SIZE)


def test_openl3_measures_collections(monkeypatch):
    monkeypatch.setitem(sys.modules, "openl3", fake_openl3())
    random = np.random.default_rng(0)
    waves = [(0.1 * random.standard_normal((1, 48_000))).astype(np.float32) for _ in range(3)]
    cases = [
        Case(f"{number}", Sound(wave, 48_000), {"copy": Sound(wave, 48_000),
                                                "moved": Sound(wave + np.float32(0.5), 48_000)})
        for number, wave in enumerate(waves)
    ]  # fmt: skip
    evaluation = Evaluation(Settings(rate=48_000), Extras("none", open_openl3()))
    rows = [*evaluation.run(Pending(case.name, lambda case=case: case) for case in cases)]
    assert not any(row.problem for row in rows)
    report = evaluation.report()
    assert report.unavailable == {"visqol": "none"}
    assert report.fd_openl3["copy"] == pytest.approx(0, abs=1e-6)
    assert report.fd_openl3["moved"] == pytest.approx(0.25 * SIZE, rel=1e-3)
    assert "FD-OpenL3" in as_text(report)
