"""AdamW: what decays, and steps that are left out without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from jatsr_model.dit.attention import Attention
from jatsr_model.dit.ends import Entry, Head
from jatsr_model.dit.layers import FeedForward

# Tokens pass through these. All other parts make what tokens are modulated with.
_OF_TOKENS = (Attention, FeedForward, Entry, Head)


def make_optimizer(
    network: nn.Module,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    fused: bool = True,
) -> AdamW:
    """AdamW in two groups: matrices that act on tokens decay, nothing else does.

    Decay keeps a matrix small that a norm follows. Norms, biases, modulation, the embeddings of
    time and of conditions, null vectors and frequencies mean something by their size.

    Args:
        network: bare or wrapped; with its parameters where they are trained.
        lr: of the first step.
        betas: of the moments.
        weight_decay: times the learning rate, what a matrix loses per step.
        fused: one kernel for all parameters, on CPUs and on CUDA; ``step_if_finite`` has to wait
            for the device without.
    """
    decayed = {id(p): p for p in _matrices(network)}
    others = [p for p in network.parameters() if id(p) not in decayed]
    groups = [
        {"params": list(decayed.values()), "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr, betas=betas, fused=fused)


def _matrices(network: nn.Module) -> list[Tensor]:
    return [
        inner.weight
        for module in network.modules()
        if isinstance(module, _OF_TOKENS)
        for inner in module.modules()
        if isinstance(inner, nn.Linear | nn.Conv1d)
    ]


def step_if_finite(optimizer: Optimizer, norm: Tensor) -> Tensor:
    """Take a step, unless gradients are not finite: then nothing changes.

    A fused optimizer reads on the device whether to act, so the host does not wait.

    Args:
        optimizer: whose gradients are set.
        norm: of the gradients of all ranks, a scalar on the device.

    Returns:
        float32 scalar on the device: 1 where the step was taken, 0 where it was left out.
    """
    finite = torch.isfinite(norm).float()
    if not optimizer.defaults["fused"]:
        if finite:
            optimizer.step()
        return finite
    # what torch's gradient scaler sets, and fused optimizers read
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.found_inf = 1 - finite  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
    return finite
