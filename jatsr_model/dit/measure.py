"""What a network costs, counted on tensors without data: parameters, memory, operations.

Operations and activations are linear in the depth, so networks of one and of two blocks are run
and the rest is arithmetic. They run as in training, under bf16 autocast, but on the CPU, so memory
is a lower bound: on GPUs autocast also keeps float32 inputs of layer norms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from jatsr_model.dit.conditions import Conditions
from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.model import DiT
from jatsr_model.dit.recipe import Preset

CAPTION_TOKENS = 128
# float32 weight, gradient, two moments of AdamW, moving average; the bf16 copy of autocast
TRAINING_BYTES = 5 * 4 + 2


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one network needs.

    Args:
        name: of the preset.
        parameters: how many.
        modules: parameters by part of the network; they add up to ``parameters``.
        seconds: of the crop that the following figures are for.
        forward_flops: of one evaluation; a product and a sum are two.
        activation_bytes: kept for the backward pass under bf16 autocast, without dropout.
        recomputed_bytes: the same where blocks recompute their activations.
        block_bytes: the share of one block.
        modulated_share: share of the parameters that act on one vector per sample.
    """

    name: str
    parameters: int
    modules: dict[str, int]
    seconds: float
    forward_flops: int
    activation_bytes: int
    recomputed_bytes: int
    block_bytes: int
    modulated_share: float

    @property
    def flops_per_second(self) -> float:
        """Operations of one evaluation per second of audio; a training step takes three times."""
        return self.forward_flops / self.seconds

    @property
    def training_bytes(self) -> int:
        """Weights, gradients, AdamW, moving average, bf16 copy; the activations of one crop."""
        return TRAINING_BYTES * self.parameters + self.activation_bytes

    @property
    def inference_bytes(self) -> int:
        """bf16 weights and, as an upper bound, the activations of one block of one crop."""
        return 2 * self.parameters + self.block_bytes


def measure(preset: Preset, seconds: float = 16.0) -> Cost:
    """Count what a preset needs for one crop.

    Args:
        preset: which.
        seconds: length of the crop, rounded to whole patches.
    """
    config = replace(preset.config, dropout=0.0)
    frames = round(seconds * preset.frame_rate / config.patch) * config.patch
    one, two = (_run(replace(config, depth=depth), frames) for depth in (1, 2))
    block_flops, block_bytes = two[0] - one[0], two[1] - one[1]
    rest = one[1] - block_bytes
    modules = parameters_by_module(preset.config)
    total = sum(modules.values())
    tokens = frames // config.patch + (config.modulation == "token")
    return Cost(
        name=preset.name,
        parameters=total,
        modules=modules,
        seconds=frames / preset.frame_rate,
        forward_flops=one[0] + (config.depth - 1) * block_flops,
        activation_bytes=rest + config.depth * block_bytes,
        recomputed_bytes=rest + block_bytes + config.depth * tokens * config.hidden * 2,
        block_bytes=block_bytes,
        modulated_share=modules.get("modulation", 0) / total,
    )


def parameters_by_module(config: DiTConfig) -> dict[str, int]:
    """Parameters by part of the network, blocks taken together."""
    with torch.device("meta"):
        network = DiT(config)
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        part = _part(name)
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


_PARTS = {
    "attention": "self-attention",
    "cross": "cross-attention",
    "mlp": "mlp",
    "modulation": "modulation",
    "shared": "modulation",
    "time": "time",
    "entry": "entry",
    "head": "head",
    "conditions": "conditions",
}


def _part(name: str) -> str:
    fields = name.split(".")
    return _PARTS.get(fields[2] if fields[0] == "blocks" else fields[0], "norms")


@lru_cache(maxsize=32)  # several presets share a network
def _run(config: DiTConfig, frames: int) -> tuple[int, int]:
    """Operations of a forward pass, and bytes that it keeps for the backward pass."""
    with FakeTensorMode():
        network = _cast_ahead(DiT(config))
        latents = torch.empty(1, config.latent_dim, frames)
        given = Conditions(
            low=latents,
            rolloff=torch.empty(1, 2),
            text=torch.empty(1, CAPTION_TOKENS, max(config.text_dim, 1)),
        )
        counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
        autocast = torch.autocast("cpu", torch.bfloat16)
        with autocast, counter, torch.no_grad():
            network.eval()(latents, torch.empty(1), given)
        kept = _Kept(network)
        with autocast, saved_tensors_hooks(kept.add, _same):
            out = network.train()(latents, torch.empty(1), given)
        del out
        return counter.get_total_flops(), kept.bytes


def _cast_ahead(network: DiT) -> DiT:
    """Make those weights bf16 that autocast would: its copies of them are no activations."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.bfloat16()))
    return network


class _Kept:
    """Adds up the storages that autograd keeps, without those of the weights."""

    def __init__(self, network: nn.Module) -> None:
        self.seen: dict[int, Any] = {_storage(p)[0]: p for p in network.parameters()}
        self.bytes = 0

    def add(self, tensor: Tensor) -> Tensor:
        key, size = _storage(tensor)
        if key not in self.seen:
            self.seen[key] = tensor  # keeps the storage, so that its address stays taken
            self.bytes += size
        return tensor


def _storage(tensor: Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    batch, heads, tokens, width = query
    products: int = 2 * batch * heads * tokens * key[2] * (width + value[3])
    return products


# torch counts the operations of its attention kernels, but not of the one for CPUs
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}
