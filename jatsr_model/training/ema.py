"""A moving average of weights, which generates better than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jatsr_model.training.named import local, parameters

WARMUP_POWER = 0.75


class Ema:
    """The average of the parameters after every step.

    It lies in the pieces in which a wrapped network holds its parameters: each rank averages what
    it has, and nothing is sent.

    Args:
        network: wrapped, on its device, with float32 parameters.
        decay: share of the past, once there is enough of it; 0 to 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._current = parameters(network)
        self._average = {name: p.detach().clone() for name, p in self._current.items()}
        self._swapped = False
        assert all(p.dtype == torch.float32 for p in self._current.values())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step ``step``, from 0.

        Early steps have a decay of ``1 - (1 + step)^-0.75``: the first is taken as it is, and
        the random start is soon forgotten.
        """
        assert not self._swapped, "these parameters are the average"
        decay = min(self.decay, 1 - (1 + step) ** -WARMUP_POWER)
        average, current = map(list, zip(*self._pairs(), strict=True))
        torch._foreach_lerp_(average, current, 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters of the network are the average; not for training.

        The two change places in memory, which takes room for the largest of them only.
        """
        assert not self._swapped, "swapped already"
        pairs = self._pairs()
        largest = max((average for average, _ in pairs), key=Tensor.numel)
        room = torch.empty_like(largest).flatten()  # now: after an error there may be none left
        _exchange(pairs, room)
        self._swapped = True
        try:
            yield
        finally:
            _exchange(pairs, room)
            self._swapped = False

    def state_dict(self) -> dict[str, Tensor]:
        """The average by name, as it lies in memory; ``gather`` makes it whole."""
        assert not self._swapped, "these tensors are the parameters"
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy what ``state_dict`` gave under the same wrapping; for others see ``scatter``."""
        assert not self._swapped, "these tensors are the parameters"
        assert state.keys() == self._average.keys()
        for name, average in self._average.items():
            local(average).copy_(local(state[name]))

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Average and parameter: what this rank holds of them."""
        return [(local(a), local(self._current[name])) for name, a in self._average.items()]


def _exchange(pairs: list[tuple[Tensor, Tensor]], room: Tensor) -> None:
    for average, current in pairs:
        kept = room[: average.numel()].view(average.shape)
        kept.copy_(average)
        average.copy_(current)
        current.copy_(kept)
