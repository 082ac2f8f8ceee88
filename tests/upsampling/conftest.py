"""A small model with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from threads import one_thread  # noqa: F401 - a fixture
from upsample_runs import run
from upsamplings import random_model

from jatsr_model.upsampling.model import Model, load_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; never written to by tests."""
    return random_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Model:
    """In memory."""
    return load_model(model_folder)


@pytest.fixture(scope="module")
def alone(music: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes, on a disk, of the ``music`` of a module."""
    out = tmp_path_factory.mktemp("alone") / "out"
    run([music], out, model_folder)
    return out
