"""Decode, mix to the codec's channels, resample to its rate; readable twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from jatsr_model.audio import decode
from jatsr_model.audio.decode import open_audio
from jatsr_model.audio.resample import Resampler
from pipeline.clock import StageClock
from pipeline.config import Channels
from pipeline.plan import TrackTask
from pipeline.records import Block, Signal
from pipeline.stages.mix import mix, mix_name

_CACHE_BYTES = 128 << 20  # 12 minutes of mono; longer tracks are decoded again for every pass


@dataclass(frozen=True)
class Source:
    """Audio file -> mixed signal at the codec's rate."""

    name: ClassVar = "decode"
    placement: ClassVar = "cpu"
    version: ClassVar = decode.VERSION

    rate: int
    channels: Channels
    clock: StageClock
    heartbeat: Callable[[], None]  # called for every block of every pass: the worker is alive

    def __call__(self, task: TrackTask) -> Signal:
        """Open a track; its blocks are decoded when they are asked for.

        Raises:
            TrackError: the file cannot be decoded.
        """
        path = Path(task.path)
        channels = 2 if self.channels == "stereo" else 1
        with self.clock.stage("decode"), open_audio(path) as audio:
            source = audio.format
        facts = {
            "source": {
                "rate": source.rate,
                "channels": source.channels,
                "container": source.container,
                "subtype": source.subtype,
                "decoder": source.decoder,
                "mix": mix_name(source.channels, self.channels),
            }
        }
        blocks = Replay(lambda: self._blocks(path, channels), _CACHE_BYTES)
        return Signal(task, self.rate, channels, blocks, facts=facts)

    def _blocks(self, path: Path, channels: int) -> Iterator[Block]:
        with open_audio(path) as audio:
            resampler = Resampler(audio.format.rate, self.rate, channels)
            for block in self.clock.timed("decode", audio.blocks()):
                with self.clock.stage("resample"):
                    out = resampler.push(mix(block, self.channels))
                self.heartbeat()
                yield out
            with self.clock.stage("resample"):
                out = resampler.flush()
            yield out


class Replay:
    """Blocks that can be iterated more than once, kept in memory while they are few.

    The first complete pass fills the cache; a signal that outgrows it is produced anew each time,
    so memory stays bounded for any length and the blocks are the same either way.
    """

    def __init__(self, produce: Callable[[], Iterator[Block]], limit: int) -> None:
        self._produce = produce
        self._limit = limit
        self._cache: list[Block] | None = None

    def __call__(self) -> Iterator[Block]:
        """A fresh pass over all non-empty blocks."""
        if self._cache is not None:
            yield from self._cache
            return
        kept: list[Block] | None = []
        size = 0
        for block in self._produce():
            if not block.shape[-1]:
                continue
            size += block.nbytes
            if kept is not None and size <= self._limit:
                kept.append(np.ascontiguousarray(block))
            else:
                kept = None
            yield block
        self._cache = kept
