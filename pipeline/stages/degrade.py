"""The low-res variants of a track, as streams in lock step with the high-res signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, Fifo
from pipeline.stages.degradation import Degradation
from pipeline.stages.variants import CLASSES, LowRes


def draw(spec: LowRes, track_id: str, variant: int) -> Degradation:
    """The degradation of one variant of one track, a function of the three arguments alone."""
    return recreate(spec.params(track_id, variant))


def recreate(params: Mapping[str, Any]) -> Degradation:
    """A degradation from its recorded ``params``."""
    return CLASSES[params["kind"]](params)


def degradation_blocks(
    hr: Callable[[], Iterator[Block]], degradations: Sequence[Degradation], scratch: Path
) -> Iterator[NDArray[np.float32]]:
    """High-res signal and its variants in lock step.

    Args:
        hr: gives the high-res signal, blocks ``(C, n)`` at 44.1 kHz; called once, and once more
            for each degradation that must be prepared.
        degradations: fresh ones; closed at the end.
        scratch: folder for temporary files.

    Yields:
        float32 ``(1 + V, C, n)``, the high-res signal first; in all as long as ``hr``. Only the
        latency of the slowest variant is held.
    """
    with ExitStack() as stack:
        for degradation in degradations:
            stack.callback(degradation.close)
            if degradation.needs_prepare:
                degradation.prepare(hr(), scratch)
        fifos = [Fifo() for _ in range(1 + len(degradations))]
        for block in hr():
            for fifo, output in zip(
                fifos, (block, *(d.push(block) for d in degradations)), strict=True
            ):
                fifo.push(output)
            yield from _ready(fifos)
        for fifo, degradation in zip(fifos[1:], degradations, strict=True):
            fifo.push(degradation.flush())
        yield from _ready(fifos)


def _ready(fifos: Sequence[Fifo]) -> Iterator[NDArray[np.float32]]:
    samples = min(fifo.available for fifo in fifos)
    if samples:
        yield np.stack([fifo.take(samples) for fifo in fifos])
