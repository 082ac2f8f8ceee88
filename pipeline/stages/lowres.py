"""The low-res variants of a track, aligned to the sample with the high-res signal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pipeline.clock import StageClock
from pipeline.records import Block, Signal
from pipeline.stages.degrade import degradation_blocks, draw
from pipeline.stages.variants import LowRes


@dataclass(frozen=True)
class Degrade:
    """``[channels, n]`` blocks -> ``[1 + variants, channels, n]`` blocks, high-res first."""

    name: ClassVar = "degrade"
    placement: ClassVar = "cpu"
    version: ClassVar = 1

    low_res: tuple[LowRes, ...]
    scratch: Path
    clock: StageClock

    def __call__(self, signal: Signal) -> Signal:
        """Draw the variants of this track; the result's blocks can be read once."""
        track = signal.task.track
        drawn = [draw(spec, track, variant) for variant, spec in enumerate(self.low_res)]
        stream = self.clock.timed(
            self.name, degradation_blocks(signal.blocks, drawn, scratch=self.scratch)
        )
        # The first block makes lossy variants encode the track, after which their rate is known.
        first = next(stream, None)
        lr = [{**variant.params, **variant.measured} for variant in drawn]

        def blocks() -> Iterator[Block]:
            return stream if first is None else itertools.chain([first], stream)

        return replace(signal, blocks=blocks, facts={**signal.facts, "lr": lr})
