"""Training: exact continuation, validation, logs, what goes wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch
from trainings import again, begun, expect_same, log, looking, run_until, saved, trained

from jatsr_model.model_folder import load_network
from jatsr_model.training.watch import Diverged
from shards.errors import ConfigError, EnvironmentFailure


def test_stopped_and_continued_equals_uninterrupted(dataset: Path, tmp_path: Path) -> None:
    """Across the end of an epoch, whatever the step at which it stopped, twice."""
    trained(tmp_path / "whole", dataset, condition_noise=0.02)
    trainer = begun(tmp_path / "parts", dataset, condition_noise=0.02)
    for stop in (3, 8):
        trainer.interrupt.number = 0
        run_until(trainer, stop)
        trainer = again(tmp_path / "parts")
        assert trainer.standing.step == stop
    assert trainer.run()
    expect_same(saved(tmp_path / "whole"), saved(tmp_path / "parts"))


def test_dropout_and_recomputing_continue_exactly(
    dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    from jatsr_model.dit import presets

    known = presets.PRESETS["mdct-xs"]
    config = replace(known.config, dropout=0.2, drop_path=0.2)
    drops = {**presets.PRESETS, "mdct-xs": replace(known, config=config)}
    monkeypatch.setattr(presets, "PRESETS", drops)
    trained(tmp_path / "whole", dataset, steps=4)
    run_until(begun(tmp_path / "parts", dataset, steps=4, recompute=True), 2)
    assert again(tmp_path / "parts").run()
    expect_same(saved(tmp_path / "whole"), saved(tmp_path / "parts"))


def test_micro_batches_and_workers_change_nothing_but_rounding(
    dataset: Path, tmp_path: Path
) -> None:
    trained(tmp_path / "one", dataset, steps=3)
    trained(tmp_path / "three", dataset, steps=3, micro_batch=3, workers=1)
    one, three = saved(tmp_path / "one"), saved(tmp_path / "three")
    for name in one:
        torch.testing.assert_close(three[name], one[name], rtol=1e-3, atol=1e-4)


def test_validation_loss_falls_and_the_best_is_a_model(dataset: Path, tmp_path: Path) -> None:
    """On a dataset that jatsr build has made; by a third in 40 steps."""
    folder = tmp_path / "run"
    trainer = trained(
        folder, dataset, steps=40, batch_size=8, val_every=20, sample_every=40, lr=3e-3, ema=0.9
    )
    lines = [line for line in log(folder) if "Val/Loss" in line]
    assert [line["step"] for line in lines] == [0, 20, 40]
    losses = [line["Val/Loss"] for line in lines]
    assert min(losses) < 0.67 * losses[0]
    assert trainer.standing.best == min(losses[1:])
    network, card = load_network(folder / "checkpoints" / "best")
    assert card.latents["space"] == "mdct"
    assert len(card.latents["scales"]["hr.mean"]) == network.config.latent_dim
    buckets = {tag for tag in lines[0] if tag.startswith("Val/MSE_t")}
    assert buckets <= {f"Val/MSE_t{t}" for t in (0.1, 0.3, 0.5, 0.7, 0.9)}
    assert len(buckets) >= 4
    heard = [line for line in log(folder) if "Val/LSD" in line]
    assert [line["step"] for line in heard] == [40]
    assert 0 < heard[0]["Val/LSD"] < 10


def test_validation_is_the_same_whatever_was_trained_before(dataset: Path, tmp_path: Path) -> None:
    """Same crops, times and noises: two trainings with other seeds judge one network alike."""
    networks = [begun(tmp_path / str(seed), dataset, seed=seed, val_every=1) for seed in (1, 2)]
    network = networks[0].network
    first, second = (trainer.validation(network) for trainer in networks)
    assert first == second
    assert first == networks[0].validation(network)


def test_losses_are_logged_under_the_documented_tags(dataset: Path, tmp_path: Path) -> None:
    losses = {"mse": 1.0, "frequency": 0.15, "multiscale": 0.15, "consistency": 0.03}
    trained(tmp_path / "run", dataset, steps=4, losses=losses, val_every=4)
    line = log(tmp_path / "run")[1]
    for tag in (
        "Loss/Total", "Loss/MSE", "Loss/LatentPerc_FreqDomain", "Loss/LatentPerc_MultiScale",
        "Loss/LatentPerc_Consistency", "LR", "GradNorm", "DataWait",
        "Throughput/audio_hours_per_hour",
    ):  # fmt: skip
        assert isinstance(line[tag], float), tag
    last = log(tmp_path / "run")[-1]
    assert last["Gradient/mse"] == pytest.approx(1)
    assert 0 <= last["Gradient/frequency"] < 0.5


def test_consistency_reaches_up_to_the_cutoff(dataset: Path, tmp_path: Path) -> None:
    """And not to the roll-off, which in dark music lies far below it."""
    trainer = begun(tmp_path / "run", dataset, losses={"mse": 1.0, "consistency": 0.03})
    batch = next(iter(trainer.batches))
    truth, given = trainer.stepper.feed(batch)
    assert truth.cutoff is not None
    assert torch.equal(truth.cutoff, given.cutoff)
    assert torch.equal(truth.cutoff, batch.cutoff.repeat_interleave(batch.hr.shape[1]))


def test_bad_steps_are_left_out_and_too_many_end_it(dataset: Path, tmp_path: Path) -> None:
    trainer = begun(tmp_path / "run", dataset, max_bad_steps=3, steps=40)
    healthy = [p.detach().clone() for p in trainer.network.parameters()]
    trainer = looking(trainer, lambda step, batch: batch.hr.fill_(float("nan")))
    with pytest.raises(Diverged, match=r"3 steps in a row .* step 2;.*bad"):
        trainer.run()
    after = list(trainer.network.parameters())
    assert all(torch.equal(one, other) for one, other in zip(healthy, after, strict=True))
    said = json.loads(next((tmp_path / "run" / "bad").glob("*.json")).read_text())
    assert len(said["key"]) == 4
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_one_bad_step_is_counted_and_remembered(dataset: Path, tmp_path: Path) -> None:
    trainer = begun(tmp_path / "run", dataset, steps=4)
    assert looking(trainer, lambda step, batch: batch.hr.fill_(inf) if step == 1 else None).run()
    assert log(tmp_path / "run")[-1]["LeftOut"] == 1
    assert all(tensor.isfinite().all() for tensor in saved(tmp_path / "run").values())
    steps = {name: t for name, t in saved(tmp_path / "run").items() if name.startswith("step.")}
    assert {float(taken) for taken in steps.values()} == {3.0}
    assert again(tmp_path / "run").standing.left_out == 1


def test_a_full_disk_ends_it_and_leaves_older_checkpoints(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jatsr_model import model_folder

    trainer = begun(tmp_path / "run", dataset, steps=8, save_every=4)
    write, count = model_folder.save_file, []

    def filling(*arguments: object) -> None:
        count.append(1)
        if len(count) > 2:
            raise OSError(28, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(model_folder, "save_file", filling)
    with pytest.raises(EnvironmentFailure, match="No space left"):
        trainer.run()
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["00000004", "last"]
    monkeypatch.undo()
    assert again(tmp_path / "run").run()


def test_what_decides_the_result_cannot_change_unnoticed(dataset: Path, tmp_path: Path) -> None:
    trained(tmp_path / "run", dataset, steps=2)
    with pytest.raises(ConfigError, match=r"--lr 0\.001, not 0\.01") as caught:
        again(tmp_path / "run", lr=0.01)
    assert "--accept-changes" in caught.value.hint
    with pytest.raises(ConfigError, match="--steps 2, not 4"):
        again(tmp_path / "run", steps=4)  # the cosine would have another shape
    assert again(tmp_path / "run", accept=True, steps=4, lr=0.01).run()
    trained(tmp_path / "flat", dataset, steps=2, schedule="constant")
    assert again(tmp_path / "flat", steps=3).run()


def test_a_changed_dataset_is_refused_or_begun_anew(
    dataset: Path, other_dataset: Path, tmp_path: Path
) -> None:
    trained(tmp_path / "run", dataset, steps=2, schedule="constant")
    with pytest.raises(ConfigError, match="the shards of the dataset"):
        again(tmp_path / "run", dataset=str(other_dataset), steps=4)
    trainer = again(tmp_path / "run", dataset=str(other_dataset), steps=4, accept=True)
    assert trainer.batches.state_dict()["epoch"] == 1
    assert trainer.run()


def test_a_damaged_checkpoint_is_passed_over(dataset: Path, tmp_path: Path) -> None:
    trained(tmp_path / "run", dataset, steps=4, save_every=2)
    whole = saved(tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "00000004" / "training.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    trainer = again(tmp_path / "run")
    assert trainer.standing.step == 2
    assert trainer.run()
    expect_same(saved(tmp_path / "run"), whole)


def test_what_was_best_counts_only_for_the_same_measure(dataset: Path, tmp_path: Path) -> None:
    trained(tmp_path / "run", dataset, steps=2, val_every=1, schedule="constant")
    assert again(tmp_path / "run", steps=3).standing.best < inf
    louder = again(tmp_path / "run", accept=True, steps=3, losses={"mse": 10.0})
    assert louder.standing.best == inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 10_000}, "--batch-size 10000: an epoch has"),
        ({"model": "s"}, "--model s works on latents of dac-72"),
        ({"model": "nosuch"}, "there is no network 'nosuch'"),
        ({"lr": -1.0}, "--lr -1.0: expected a number above 0"),
        ({"warmup": 50}, "--warmup 50 leaves none"),
        ({"times": "gaussian"}, "--times gaussian"),
        ({"losses": {"mse": 1.0, "nosuch": 1.0}}, "--loss: unknown nosuch"),
        ({"schedule": "linear"}, "--schedule linear"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    dataset: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        begun(tmp_path / "run", dataset, **changes)
