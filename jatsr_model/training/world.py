"""The processes that train together: one alone, or the ranks that torchrun started."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _abort_process_group
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from jatsr_model.training.environment import device_of, place_of
from jatsr_model.training.wrap import wrap_ddp, wrap_fsdp
from shards.errors import ConfigError, EnvironmentFailure

# What one rank does while others wait, such as to write a checkpoint, takes less.
TIMEOUT = timedelta(minutes=60)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """All ranks, seen from one of them. As a context it ends itself.

    Args:
        rank: of this process, from 0.
        size: ranks.
        local_rank: among those of this machine.
        device: on which this rank computes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @staticmethod
    def from_environment(device: str = "", timeout: timedelta = TIMEOUT) -> World:
        """Join the ranks that torchrun started, or be the only one.

        Args:
            device: ``cpu``, ``cuda``, ``cuda:1``; empty for the best there is.
            timeout: after which a rank that waits for another one gives up.

        Raises:
            ConfigError: there is no such device, or torchrun's variables are incomplete.
            EnvironmentFailure: the other ranks cannot be reached.
        """
        place = place_of(os.environ)
        where = device_of(device, place)
        if place.size == 1:
            return World(device=where)
        # what is on the CPU goes through gloo in any case: messages wait for no GPU
        backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=timeout)
        except (dist.DistError, RuntimeError, ValueError) as error:
            raise EnvironmentFailure(
                f"rank {place.rank} of {place.size} did not find the others: {error}",
                hint="start all ranks with torchrun, so that they reach MASTER_ADDR:MASTER_PORT",
            ) from error
        return World(**place._asdict(), device=where)

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and speaks to the user."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether any rank says so. Waits for all ranks, but for no GPU.

        Raises:
            EnvironmentFailure: another rank is gone.
        """
        said = torch.tensor([flag], dtype=torch.int32)
        if self.size > 1:
            with waiting(self):
                dist.all_reduce(said, dist.ReduceOp.MAX)
        return bool(said)

    def barrier(self) -> None:
        """Wait for all ranks; raises as ``any``."""
        self.any(False)

    def of_main(self, value: T) -> T:
        """What rank 0 gave, anything that can be pickled; raises as ``any``."""
        box = [value]
        if self.size > 1:
            with waiting(self):
                dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, a new tensor on the same device, without waiting for that."""
        total = tensor.detach().clone()
        if self.size > 1:
            with waiting(self):
                dist.all_reduce(total)
        return total

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor of which each rank holds a part, such as a norm under FSDP; others as they are.

        All ranks call it.
        """
        tensor = tensor.detach()
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def wrap(self, network: nn.Module, strategy: str, precision: str = "fp32") -> nn.Module:
        """Make a network train on all ranks at once, from the weights of rank 0.

        Args:
            network: bare, with float32 parameters, which go to the device.
            strategy: ``ddp``: every rank holds everything. ``fsdp``: every rank holds a part of
                the parameters, of their gradients and of what is made from them.
            precision: ``bf16`` for passes under autocast.

        Returns:
            What to call; gradients are means over ranks. Under ``fsdp`` and for one process it is
            ``network`` itself.

        Raises:
            ConfigError: there is no such strategy.
        """
        if strategy not in ("ddp", "fsdp"):
            raise ConfigError(f"--strategy {strategy}: there is none", hint="one of ddp, fsdp")
        network = network.to(self.device)
        if self.size == 1:
            return network
        if strategy == "ddp":
            return wrap_ddp(network)
        return wrap_fsdp(network, torch.bfloat16 if precision == "bf16" else None)

    @contextmanager
    def no_sync(self, network: nn.Module) -> Iterator[None]:
        """Inside, gradients are added up on this rank only.

        For all but the last part of a batch that is taken in parts. Under FSDP, too, a rank then
        holds whole gradients.
        """
        if isinstance(network, DistributedDataParallel):
            with network.no_sync():
                yield
        elif isinstance(network, FSDPModule):
            network.set_requires_gradient_sync(False)
            try:
                yield
            finally:
                network.set_requires_gradient_sync(True)
        else:
            yield

    def close(self, *, failed: bool = False) -> None:
        """Leave the others; harmless if done already.

        Args:
            failed: without finishing what was begun together. Ranks that wait for this one get an
                error when this process ends: through gloo at once, through NCCL by torchrun, which
                then ends them, or after the timeout.
        """
        if self.size == 1 or not dist.is_initialized():
            return
        if failed:
            _abort_process_group()
        else:
            dist.destroy_process_group()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, trace: TracebackType | None
    ) -> None:
        # networks that the failed frames hold would keep the group, and hang when they go after it
        traceback.clear_frames(trace)
        self.close(failed=kind is not None)


@contextmanager
def waiting(world: World) -> Iterator[None]:
    """Around messages on the CPU, where the only thing that can go wrong is another rank.

    Raises:
        EnvironmentFailure: it is gone, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        raise EnvironmentFailure(
            f"rank {world.rank} lost another of {world.size} ranks: {error}",
            hint="the message of the other rank says why",
        ) from error
