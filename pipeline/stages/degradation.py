"""What every low-res variant can do, and the simplest one: through a lower sample rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jatsr_model.audio.blocks import Block, joined
from jatsr_model.audio.resample import QUALITY, Resampler

SAMPLE_RATE = 44100  # Hz, of the high-res signal and of every low-res signal as stored


class Degradation(ABC):
    """One use: a stream of blocks ``(C, n)`` at 44.1 kHz to its degraded copy, sample-aligned.

    Call ``prepare`` (if ``needs_prepare``), then ``push`` every block, then ``flush``, then
    ``close``. The outputs concatenated are exactly as long as the inputs and do not depend on how
    the input is cut.

    Attributes:
        params: JSON-ready facts that recreate it (``degrade.recreate``).
        needs_prepare: whether it must see the whole signal first.
        version: changes when the same ``params`` give other samples; part of the fingerprint.
    """

    needs_prepare = False
    version: str

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = dict(params)

    @property
    def measured(self) -> Mapping[str, Any]:
        """JSON-ready facts known only afterwards, such as the bit rate reached."""
        return {}

    def prepare(self, blocks: Iterable[Block], scratch: Path) -> None:
        """See the whole signal once; temporary files go to ``scratch``."""
        raise NotImplementedError(f"{type(self).__name__} needs no preparation")

    @abstractmethod
    def push(self, block: Block) -> Block:
        """Feed float32 ``(C, n)``; returns what is ready, ``(C, m)`` with ``m >= 0``."""

    @abstractmethod
    def flush(self) -> Block:
        """End of the signal: the rest of the output, ``(C, m)``."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Release temporary files."""


class DownUp:
    """44.1 kHz to a lower rate and back, as long as the input.

    Args:
        rate: Hz, the rate in between; 44100 or more passes the samples through.
        channels: C.
    """

    def __init__(self, rate: int, channels: int) -> None:
        rate = min(rate, SAMPLE_RATE)
        self._down = Resampler(SAMPLE_RATE, rate, channels)
        self._up = Resampler(rate, SAMPLE_RATE, channels)
        self._channels = channels
        self._samples = 0

    def push(self, block: Block) -> Block:
        """Feed ``(C, n)``; returns what is ready."""
        self._samples += block.shape[1]
        return self._up.push(self._down.push(block))

    def flush(self) -> Block:
        """The rest of the output."""
        last = self._up.push(self._down.flush())
        return joined([last, self._up.flush(self._samples)], self._channels)


class Sinc(Degradation):
    """Band limitation by resampling to ``rate`` and back, the filter being soxr's.

    Args:
        params: ``kind``, ``rate`` (Hz).
    """

    version = f"1 soxr-{QUALITY}"

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self._stream: DownUp | None = None

    def push(self, block: Block) -> Block:
        """See ``Degradation.push``."""
        if self._stream is None:
            self._stream = DownUp(self.params["rate"], block.shape[0])
        return self._stream.push(block)

    def flush(self) -> Block:
        """See ``Degradation.flush``."""
        return np.zeros((1, 0), np.float32) if self._stream is None else self._stream.flush()
