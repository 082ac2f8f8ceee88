"""Datasets to train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from threads import one_thread  # noqa: F401 - a fixture
from trainings import OPEN


@pytest.fixture(autouse=True, scope="module")
def closed() -> Iterator[None]:
    """End what tests have opened."""
    yield
    while OPEN:
        OPEN.pop()()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., object]) -> Path:
    """20 seconds of music in both splits, as jatsr build makes it; about 50 crops of 32 frames."""
    return _built(tmp_path_factory.mktemp("dataset"), build, seeds=range(8))


@pytest.fixture(scope="session")
def other_dataset(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., object]) -> Path:
    """Another one."""
    return _built(tmp_path_factory.mktemp("other"), build, seeds=range(10, 14))


def _built(folder: Path, build: Callable[..., object], seeds: range) -> Path:
    for seed in seeds:
        path = folder / "music" / f"{seed}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, _loop(2.5, seed), 44100)
    build(folder / "music", folder / "dataset", lr=["sinc:16000"], val_fraction=0.3)
    return folder / "dataset"


def _loop(seconds: float, seed: int) -> NDArray:
    """Half of all tracks is one figure of 16 frames, which can be learned; the rest is noise."""
    figure = np.random.default_rng(0).standard_normal(16 * 512) * np.hanning(16 * 512)
    own = np.random.default_rng(seed + 1).standard_normal(int(seconds * 44100))
    return 0.1 * (np.resize(figure, len(own)) + own * figure.std())
