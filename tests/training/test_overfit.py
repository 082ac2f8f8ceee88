"""One crop learned by heart, and sampled back from noise by the real sampler."""

from __future__ import annotations

from pathlib import Path

import pytest
from trainings import RUNTIME, log, trained


@pytest.mark.slow
def test_one_crop_is_learned_and_comes_back_from_noise(dataset: Path, tmp_path: Path) -> None:
    recipe = {"overfit": 1, "steps": 250, "batch_size": 4, "lr": 3e-3, "ema": 0.9,
              "condition_dropout": 0.0, "warmup": 10}  # fmt: skip
    runtime = {**RUNTIME, "sample_every": 250, "sample_steps": 8, "val_every": 250}
    trainer = trained(tmp_path / "run", dataset, **{**recipe, **runtime})
    lines = log(tmp_path / "run")
    losses = [line["Loss/Total"] for line in lines if "Loss/Total" in line]
    assert losses[-1] < 0.05 * losses[0]
    assert trainer.standing.sample_error < 0.1
