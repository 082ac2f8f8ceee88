"""Jobs for two ranks; importable by name in their processes."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from ranks import BATCH, CONFIG, Rank, Trained, predict
from tiny_dit import awake

from jatsr_model.training.agreement import Agreement
from jatsr_model.training.gather import FullState, gather
from jatsr_model.training.named import local, parameters
from jatsr_model.training.world import World
from shards.errors import EnvironmentFailure


def gradients(rank: Rank, folder: Path) -> None:
    """Gradients of one batch, whole and in parts, and messages."""
    with rank.world() as world:
        _messages(world)
        found = {}
        for strategy in ("ddp", "fsdp"):
            trained = Trained(world, strategy, seed=rank.rank)  # that of rank 0 counts
            for parts in (1, 2):
                trained.optimizer.zero_grad()
                trained.backward(0, parts)
                found[f"{strategy}-{parts}"] = trained.gradients()
        found["bf16"] = _bf16(world)
        if world.is_main:
            torch.save(found, folder / "gradients")
    assert not dist.is_initialized()
    world.close()  # again


def _messages(world: World) -> None:
    assert [world.any(world.rank == k) for k in (0, 1, 2)] == [True, True, False]
    mine = torch.tensor([1.0, world.rank])
    assert world.sum(mine).tolist() == [2.0, 1.0]
    assert mine[1] == world.rank
    assert world.of_main({"rank": world.rank}) == {"rank": 0}
    world.barrier()
    _agreement(world)


def _agreement(world: World) -> None:
    agreement = Agreement(world)
    assert not agreement.get()
    # rank 0 says something only when it hears that rank 1 went on after it had
    ping = torch.zeros(1)
    if world.rank == 1:
        agreement.put(True)
        dist.send(ping, 0)
    else:
        dist.recv(ping, 1)
        agreement.put(False)
    assert agreement.get()
    assert agreement.get()
    said = [[False, False], [True, False], [False, False], [False, True], [True, True]]
    seen = []
    for flags in said:
        seen.append(agreement.get())
        agreement.put(flags[world.rank])
    assert [*seen[1:], agreement.get()] == [any(flags) for flags in said]


def _bf16(world: World) -> dict[str, torch.Tensor]:
    """A pass under autocast with blocks gathered in bf16."""
    network = awake(CONFIG).train()
    world.wrap(network, "fsdp", "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        output, data = predict(network, 0, slice(world.rank, BATCH, world.size))
    (output.float() - data).square().mean().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in network.parameters())
    return gather({n: p.grad for n, p in parameters(network).items()}, world)


def states(rank: Rank, folder: Path) -> None:
    """Three steps; the average in place; a step that is left out; state of others taken over."""
    single = FullState(**torch.load(folder / "single"))
    with rank.world() as world:
        for strategy in ("ddp", "fsdp"):
            trained = Trained(world, strategy)
            found = {}
            for step in range(3):
                assert trained.step(step) == 1
            found["state"] = vars(trained.state())
            found["output"] = trained.output()
            with trained.ema.swapped():
                found["average"] = trained.output()
            found["again"] = trained.output()
            bad = float("nan") if rank.rank == 1 else 1.0
            assert trained.step(3, bad) == 0  # on both
            found["left out"] = vars(trained.state())
            trained = Trained(world, strategy, seed=1)
            trained.load(single if world.is_main else None)
            found["loaded"] = vars(trained.state())
            trained.step(3)
            found["continued"] = vars(trained.state())
            torch.save(found, folder / f"{strategy}-{world.rank}")
            if strategy == "fsdp":
                _shared_out(trained)


def _shared_out(trained: Trained) -> None:
    """Ranks hold about half of everything."""
    whole = sum(p.numel() for p in awake(CONFIG).parameters())
    for tensors in (dict(trained.network.named_parameters()), trained.ema.state_dict()):
        held = sum(local(tensor).numel() for tensor in tensors.values())
        assert abs(held / whole - 0.5) < 0.02


def silence(rank: Rank, folder: Path) -> None:
    """Rank 1 says nothing for longer than the timeout of 1.5 seconds; then it raises."""
    with _noticed(folder / "silence"), rank.world(seconds=1.5) as world:
        if rank.rank == 0:
            world.barrier()
        rank.released.wait(60)
    rank.released.set()
    _train(rank, folder, _raise)


def death(rank: Rank, folder: Path) -> None:
    """Rank 1 is killed."""
    _train(rank, folder, _die)


def _train(rank: Rank, folder: Path, end: Callable[[], None]) -> None:
    """Rank 1 ends while rank 0 waits for its gradients."""
    with rank.world() as world:
        _steps(world, folder, end)  # networks of several ranks must be gone before the ranks part


def _steps(world: World, folder: Path, end: Callable[[], None]) -> None:
    trained = Trained(world)
    agreement = Agreement(world)
    for step in itertools.count():
        agreement.put(False)
        if world.rank == 1 and step == 2:
            end()
        if step == 2:
            with _noticed(folder / "end"):
                trained.step(step)
            return
        trained.step(step)
        agreement.get()


def _raise() -> None:
    raise ZeroDivisionError("a defect")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _noticed(path: Path) -> Iterator[None]:
    """Write which error came, and when."""
    began = time.monotonic()
    try:
        yield
    except (RuntimeError, EnvironmentFailure) as error:
        torch.save((type(error).__name__, time.monotonic() - began), path)
