"""The state of a training by the names of the bare network, as it lies in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

_COMPILED = "_orig_mod"  # what torch.compile puts into names


def parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of a network, bare or wrapped; under FSDP sharded."""
    return {_plain(name): p for name, p in _bare(network).named_parameters()}


def weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a network, bare or wrapped."""
    return {_plain(name): tensor for name, tensor in _bare(network).state_dict().items()}


def moments(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """State of AdamW: ``exp_avg.NAME``, ``exp_avg_sq.NAME`` and ``step.NAME``.

    What the first step would make is made here, as AdamW would.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in parameters(network).items():
        state = optimizer.state[parameter]
        if not state:
            where = parameter.device if optimizer.defaults["fused"] else torch.device("cpu")
            state["step"] = torch.zeros((), dtype=torch.float32, device=where)
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        found.update({f"{key}.{name}": value.detach() for key, value in state.items()})
    return found


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, in the same memory."""
    held: Tensor = tensor.detach()
    return held.to_local() if isinstance(held, DTensor) else held


def _bare(network: nn.Module) -> nn.Module:
    """The network inside of DDP and of ``torch.compile``."""
    inner = getattr(network, _COMPILED, None)
    if isinstance(network, DistributedDataParallel):
        inner = network.module
    return _bare(inner) if isinstance(inner, nn.Module) else network


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != _COMPILED)
