"""Roll-offs and envelopes of all streams, alongside the audio they describe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from jatsr_model.codecs import frames_of
from pipeline.clock import StageClock
from pipeline.records import Described, Pcm, Signal
from pipeline.stages.describe import Describer


@dataclass(frozen=True)
class Describe:
    """Blocks of a track -> the same blocks, and a description after each complete excerpt."""

    name: ClassVar = "describe"
    placement: ClassVar = "cpu"
    version: ClassVar = 1

    streams: int
    excerpt_frames: int
    hop: int
    clock: StageClock

    def __call__(self, signal: Signal) -> Iterator[Pcm | Described]:
        """Describe excerpts as they pass."""
        track = signal.task.track
        describer = Describer(self.streams, self.excerpt_frames)
        for block in signal.blocks():
            yield Pcm(track, block)
            with self.clock.stage(self.name):
                descriptions = describer.push(block)
            for description in descriptions:
                yield Described(track, description)
        with self.clock.stage(self.name):
            descriptions = describer.flush(frames_of(signal.samples, self.hop))
        for description in descriptions:
            yield Described(track, description)
