"""The state of a training as whole tensors, whoever holds it.

One process, DDP and FSDP hold the same state in different pieces. Here it becomes flat dictionaries
on the CPU of rank 0, named as in the bare network and ready for safetensors, and goes back from
there: what one of them saved, each of the others can load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from jatsr_model.model_folder import ModelError
from jatsr_model.training.ema import Ema
from jatsr_model.training.named import local, moments, weights
from jatsr_model.training.world import World

_HINT = (
    "it belongs to another network, or another version of jatsr made it; continue with the --model "
    "and the version that it was saved of"
)


@dataclass(frozen=True)
class FullState:
    """Everything that training changes; whole on rank 0, empty on others.

    Args:
        ema: averaged weights by name.
        rest: ``weights.NAME``, ``exp_avg.NAME``, ``exp_avg_sq.NAME``, ``step.NAME``.
    """

    ema: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]


def full_state(network: nn.Module, ema: Ema, optimizer: Optimizer, world: World) -> FullState:
    """Copy everything to the CPU of rank 0. All ranks call it."""
    return FullState(gather(ema.state_dict(), world), gather(_rest(network, optimizer), world))


def load_full_state(
    state: FullState | None, network: nn.Module, ema: Ema, optimizer: Optimizer, world: World
) -> None:
    """Put it back. All ranks call it.

    Args:
        state: on rank 0; what others give is not looked at.
        network: filled in place, as are ``ema`` and ``optimizer``.
        ema: of its parameters.
        optimizer: of its parameters.
        world: of ranks, perhaps another one than at the time of saving.

    Raises:
        ModelError: names or shapes are those of another network; raised on every rank, and nothing
            was changed.
    """
    whole = None if state is None else _averaged(state.ema) | dict(state.rest)
    into = _averaged(ema.state_dict()) | _rest(network, optimizer)
    scatter(whole, into, world)  # in one, so that all is checked before anything changes


def _averaged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"ema.{name}": tensor for name, tensor in tensors.items()}


def _rest(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    named = {f"weights.{name}": tensor for name, tensor in weights(network).items()}
    return named | moments(network, optimizer)


def gather(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Copies of whole tensors on the CPU of rank 0; nothing on others. All ranks call it."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = world.whole(tensor)
        if world.is_main:
            found[name] = whole.to("cpu", copy=True).contiguous()
    return found


def scatter(whole: Mapping[str, Tensor] | None, into: Mapping[str, Tensor], world: World) -> None:
    """Fill tensors, whole or sharded, in place with what rank 0 has. All ranks call it.

    Raises:
        ModelError: names or shapes differ; raised on every rank, and nothing was changed.
    """
    _check(world.of_main(_shapes(whole or {})), _shapes(into))
    for name, tensor in into.items():
        _fill(tensor, whole[name] if whole and world.is_main else None, world)


def _fill(tensor: Tensor, whole: Tensor | None, world: World) -> None:
    if whole is None:
        whole = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    value = whole.to(dtype=tensor.dtype, device=tensor.device).contiguous()
    if world.size > 1:
        dist.broadcast(value, src=0)
    if isinstance(tensor, DTensor):  # of the whole, which each rank has now, it takes its share
        value = distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    local(tensor).copy_(local(value))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _check(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unknown:
        raise ModelError(
            f"the saved state lacks {len(missing)} tensors ({_some(missing)}) "
            f"and has {len(unknown)} that are not expected ({_some(unknown)})",
            hint=_HINT,
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise ModelError(f"{name} has shape {found[name]}, expected {shape}", hint=_HINT)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
