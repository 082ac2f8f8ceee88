"""Worlds of one and of two ranks."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path

import pytest
import rank_jobs
import torch
from ranks import CONFIG, Trained, predict, run_ranks
from tiny_dit import awake
from torch import Tensor

from jatsr_model.training.agreement import Agreement
from jatsr_model.training.environment import Place, device_of, place_of
from jatsr_model.training.named import parameters
from jatsr_model.training.world import World
from shards.errors import ConfigError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "here",
    "MASTER_PORT": "1",
}


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What two ranks found; they also talked."""
    folder = tmp_path_factory.mktemp("gradients")
    assert run_ranks(rank_jobs.gradients, folder) == [0, 0]
    return torch.load(folder / "gradients")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("parts", [1, 2])
def test_two_ranks_have_the_gradients_of_one(gradients, strategy: str, parts: int) -> None:
    alone = Trained(World())
    alone.backward(0)
    found = gradients[f"{strategy}-{parts}"]
    assert found.keys() == parameters(alone.network).keys()
    for name, expected in alone.gradients().items():
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


def test_blocks_in_bf16_have_gradients_like_autocast(gradients) -> None:
    network = awake(CONFIG).train()
    with torch.autocast("cpu", torch.bfloat16):
        output, data = predict(network, 0)
    (output.float() - data).square().mean().backward()
    for name, parameter in network.named_parameters():
        error = (gradients["bf16"][name] - parameter.grad).norm() / parameter.grad.norm()
        assert error < 0.05, name


def test_a_rank_waits_no_longer_than_the_timeout(tmp_path: Path) -> None:
    codes = run_ranks(rank_jobs.silence, tmp_path, worlds=2)
    name, seconds = torch.load(tmp_path / "silence")
    assert name == "EnvironmentFailure"
    assert 1.4 < seconds < 30
    # and where it raises, with an agreement under way, both end at once
    assert codes == [0, 1]
    name, seconds = torch.load(tmp_path / "end")
    assert (name, seconds < 30) == ("RuntimeError", True)


def test_a_rank_that_is_killed_is_noticed_at_once(tmp_path: Path) -> None:
    assert run_ranks(rank_jobs.death, tmp_path) == [0, -signal.SIGKILL]
    name, seconds = torch.load(tmp_path / "end")
    assert (name, seconds < 30) == ("RuntimeError", True)


def test_one_process_is_a_world() -> None:
    with World.from_environment("cpu") as world:
        assert asdict(world) == asdict(World())
        assert world.is_main
        assert [world.any(flag) for flag in (True, False)] == [True, False]
        assert world.sum(torch.tensor([2.0])).tolist() == [2.0]
        assert world.of_main("value") == "value"
        network = awake(CONFIG)
        assert world.wrap(network, "fsdp") is network
        agreement = Agreement(world)
        seen = []
        for flag in (True, False, False):
            seen.append(agreement.get())
            agreement.put(flag)
        assert seen == [False, True, False]


def test_torchrun_says_who_we_are() -> None:
    assert place_of({}) == Place(0, 1, 0)
    assert place_of({**TORCHRUN, "WORLD_SIZE": "1"}) == Place(0, 1, 0)
    assert place_of(TORCHRUN) == Place(rank=3, size=4, local_rank=1)


@pytest.mark.parametrize("name", sorted(TORCHRUN.keys() - {"WORLD_SIZE"}))
def test_half_of_torchruns_variables_is_an_error(name: str) -> None:
    environ = {key: value for key, value in TORCHRUN.items() if key != name}
    with pytest.raises(ConfigError, match=name) as caught:
        place_of(environ)
    assert "torchrun" in caught.value.hint


def test_ranks_are_numbers() -> None:
    with pytest.raises(ConfigError, match="three"):
        place_of({**TORCHRUN, "RANK": "three"})


@pytest.mark.parametrize("wanted", ["tpu", "cpu:1", "cuda:x", "cuda:", ":1"])
def test_unknown_devices_are_named(wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"--device {wanted}"):
        device_of(wanted, Place())


def test_every_rank_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert device_of("", Place()) == torch.device("cuda", 0)
    assert device_of("cuda:1", Place()) == torch.device("cuda", 1)
    assert device_of("cuda", Place(3, 4, 1)) == torch.device("cuda", 1)
    assert current == [0, 1, 1]
    assert device_of("cpu", Place(3, 4, 1)) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"--device cuda:1 .* 4 ranks"):
        device_of("cuda:1", Place(3, 4, 1))
    with pytest.raises(ConfigError, match="GPU 2 is wanted, torch sees 2"):
        device_of("", Place(2, 4, 2))


def test_no_gpu_is_named() -> None:
    if not torch.cuda.is_available():
        assert device_of("", Place()) == torch.device("cpu")
        with pytest.raises(ConfigError, match="--device cuda"):
            device_of("cuda", Place())


def test_unknown_strategy() -> None:
    with pytest.raises(ConfigError, match="--strategy zero"):
        World().wrap(awake(CONFIG), "zero")
