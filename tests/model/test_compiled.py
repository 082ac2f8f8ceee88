"""Blocks that are compiled one by one, as the trainer does."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny_dit import TINY, awake, conditions, latents
from torch._dynamo.testing import CompileCounter


def test_all_blocks_that_drop_paths_share_one_graph() -> None:
    """Each has its own rate; a graph of each would reach the limit of torch.compile at eight."""
    torch._dynamo.reset()
    network = awake(replace(TINY, depth=5, drop_path=0.5)).train()
    counter = CompileCounter()
    for block in network.blocks:
        block.compile(backend=counter)
    given = conditions(TINY, 2, 8)
    for _ in range(2):
        network(latents(2, 8), torch.tensor([0.1, 0.7]), given).sum().backward()
    assert counter.frame_count == 2  # the first block drops nothing
