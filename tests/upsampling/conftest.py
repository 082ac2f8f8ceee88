"""A small model with random weights; one thread, with which tiny networks are fastest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from upsamplings import random_model

from jatsr_model.upsampling.model import Model, load_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; never written to by tests."""
    return random_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Model:
    """In memory."""
    return load_model(model_folder)
