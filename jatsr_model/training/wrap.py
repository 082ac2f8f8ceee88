"""How a network is made to train on several ranks."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from jatsr_model.dit.block import Block


def wrap_ddp(network: nn.Module) -> nn.Module:
    """Every rank holds everything; gradients are averaged while the backward pass runs.

    Every parameter must get a gradient in every step: looking for unused ones would cost a walk
    through the graph. The graph is not declared static either, which could not be combined with
    conditions that a batch has or has not, nor safely with ``no_sync``.
    """
    return DistributedDataParallel(
        network,
        find_unused_parameters=False,
        gradient_as_bucket_view=True,
        static_graph=False,
    )


def wrap_fsdp(network: nn.Module, low: torch.dtype | None) -> nn.Module:
    """Every rank holds a part of every parameter; blocks are gathered one at a time.

    What is left beside the blocks is one more group, whose parameters stay float32: embeddings of
    time and frequencies suffer most from bf16, and few bytes would be saved. Inputs are not cast,
    neither times nor rotations; autocast does that where it is harmless, so that networks see
    the same numbers as under DDP. Gradients are reduced in float32.

    Outside of passes parameters are always sharded, also those of the root, so that what is put
    into them is what the next pass gathers.

    Args:
        network: on its device.
        low: type in which the parameters of blocks are gathered, if not their own.
    """
    # the output of a network is a view; it would have to be changed in place to do harm
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    for tensor in network.state_dict().values():
        dist.broadcast(tensor, src=0)
    kind = next(network.parameters()).device.type
    mesh = init_device_mesh(kind, (dist.get_world_size(),), mesh_dim_names=("shard",))
    of_blocks = MixedPrecisionPolicy(
        param_dtype=low, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    of_root = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in network.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh, mp_policy=of_blocks, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, mp_policy=of_root, reshard_after_forward=True)
    return network
