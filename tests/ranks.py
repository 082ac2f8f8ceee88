"""Two processes that train together on the CPU, and what tests let them do."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from tiny_dit import WITH_TEXT, awake, conditions, latents
from torch import Tensor, nn
from torch.optim import AdamW

from jatsr_model.dit import Conditions
from jatsr_model.training.ema import Ema
from jatsr_model.training.gather import FullState, full_state, gather, load_full_state
from jatsr_model.training.named import parameters
from jatsr_model.training.optimizer import make_optimizer, step_if_finite
from jatsr_model.training.world import World

SIZE = 2
BATCH, FRAMES = 4, 18
# 5 channels: no two ranks hold equally many rows of the null vector and of the head
CONFIG = replace(WITH_TEXT, latent_dim=5, depth=2)

Job = Callable[["Rank", Path], None]


class Rank:
    """One of two processes; ``world`` may be called several times, one after the other."""

    def __init__(self, rank: int, ports: list[int], released: Any) -> None:
        self.rank, self._ports, self.released = rank, ports, released

    def world(self, seconds: float = 60) -> World:
        os.environ.update(
            RANK=str(self.rank),
            LOCAL_RANK=str(self.rank),
            WORLD_SIZE=str(SIZE),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(self._ports.pop(0)),
        )
        return World.from_environment("cpu", timedelta(seconds=seconds))


def run_ranks(job: Job, folder: Path, worlds: int = 1, seconds: float = 120) -> list[int | None]:
    """Run a job, a function of an importable module, on two ranks; gives their exit codes."""
    context = multiprocessing.get_context("spawn")
    ports = _free_ports(worlds)
    released = context.Event()
    processes = [
        context.Process(target=_main, args=(job, rank, ports, released, folder), daemon=True)
        for rank in range(SIZE)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _main(job: Job, rank: int, ports: list[int], released: Any, folder: Path) -> None:
    faulthandler.enable()
    torch.set_num_threads(1)
    job(Rank(rank, ports, released), folder)


class Trained:
    """A tiny network with all that its training changes."""

    def __init__(self, world: World, strategy: str = "ddp", seed: int = 0) -> None:
        self.world = world
        self.network = awake(CONFIG, seed=seed).train()
        self.wrapped = world.wrap(self.network, strategy)
        self.optimizer: AdamW = make_optimizer(self.network, 1e-3, (0.9, 0.99), 0.01)
        self.ema = Ema(self.network, 0.9)

    def backward(self, batch: int, parts: int = 1, factor: float = 1.0) -> None:
        """Gradients of this rank's share of a batch."""
        rows = slice(self.world.rank, BATCH, self.world.size)
        size = BATCH // self.world.size // parts
        for part in range(parts):
            last = part == parts - 1
            with nullcontext() if last else self.world.no_sync(self.wrapped):
                output, data = predict(
                    self.wrapped, batch, rows, slice(part * size, (part + 1) * size)
                )
                ((output - data).square().mean() * factor / parts).backward()

    def gradients(self) -> dict[str, Tensor]:
        grads = {name: p.grad for name, p in parameters(self.network).items()}
        assert all(grad is not None for grad in grads.values())
        return gather(grads, self.world)  # type: ignore[arg-type]

    def step(self, number: int, factor: float = 1.0) -> Tensor:
        """Says whether it was taken."""
        self.backward(number, factor=factor)
        tensors = list(self.network.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in tensors if p.grad is not None])
        norm = self.world.whole(norm)
        nn.utils.clip_grads_with_norm_(tensors, 1.0, norm)
        finite = step_if_finite(self.optimizer, norm)
        self.optimizer.zero_grad()
        self.ema.update(number)
        return finite

    def state(self) -> FullState:
        return full_state(self.wrapped, self.ema, self.optimizer, self.world)

    def load(self, state: FullState | None) -> None:
        load_full_state(state, self.wrapped, self.ema, self.optimizer, self.world)

    def output(self) -> Tensor:
        """Of the network, for the same input on every rank."""
        return self.output_of(self.network)

    @staticmethod
    @torch.no_grad()
    def output_of(network: nn.Module) -> Tensor:
        return predict(network, 0)[0]


def predict(network: nn.Module, batch: int, *rows: slice) -> tuple[Tensor, Tensor]:
    """Output and what it should be, for rows of rows of a batch."""
    data, noisy = (latents(BATCH, FRAMES, 10 * batch + k, channels=5) for k in range(2))
    generator = torch.Generator().manual_seed(batch)
    t = torch.rand(BATCH, generator=generator)
    given = replace(
        conditions(CONFIG, BATCH, FRAMES, seed=batch),
        low=latents(BATCH, FRAMES, 10 * batch + 2, channels=5),
        has_low=torch.rand(BATCH, generator=generator) < 0.5,
        has_rolloff=torch.rand(BATCH, 2, generator=generator) < 0.5,
        has_text=torch.rand(BATCH, generator=generator) < 0.5,
    )
    for some in rows:
        data, noisy, t = data[some], noisy[some], t[some]
        given = Conditions(**{f.name: getattr(given, f.name)[some] for f in fields(given)})
    return network(noisy, t, given), data
