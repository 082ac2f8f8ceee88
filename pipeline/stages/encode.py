"""Windows of many tracks in fixed-shape batches; the one stage that wants an accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from jatsr_model.codecs import Codec
from jatsr_model.codecs.windower import Windower
from pipeline.clock import StageClock
from pipeline.records import Begin, Block, Dropped, EncodedEvent, End, Event, Pcm, Stored
from shards.files import machine_errors


@dataclass
class _Slot:
    track: str
    lane: int
    frames: int


class Encode:
    """Pools windows of all lanes of many tracks; a batch is encoded when it is full.

    A short batch at the very end is filled with zeros and the filling discarded, so the network
    always sees one shape.
    """

    name: ClassVar = "encode"
    placement: ClassVar = "accelerator"
    version: ClassVar = 1

    def __init__(self, codec: Codec, clock: StageClock) -> None:
        self._codec = codec
        self._clock = clock
        size = codec.window_frames * codec.hop
        self._batch = np.zeros((codec.batch_size, size), np.float32)
        self._slots: list[_Slot] = []

    def __call__(self, events: Iterator[Event]) -> Iterator[EncodedEvent]:
        """Replace ``Pcm`` by ``Stored``; an ``End`` follows the last frames of its track."""
        windower: Windower | None = None
        ending: list[End] = []
        for event in events:
            if isinstance(event, Pcm):
                streams, channels, samples = event.block.shape
                windower = windower or Windower(self._codec, streams * channels)
                full = self._codec.window_frames - 2 * self._codec.encode_context
                for window in windower.push(event.block.reshape(streams * channels, samples)):
                    yield from self._pool(event.track, window, full, ending)
            elif isinstance(event, End):
                assert windower is not None
                for window, frames in windower.flush():
                    yield from self._pool(event.track, window, frames, ending)
                windower = None
                ending.append(event)
                yield from self._ended(ending)
            else:
                if isinstance(event, Begin | Dropped):
                    windower = None
                yield event
        yield from self._encode(ending)

    def _pool(
        self, track: str, window: Block, frames: int, ending: list[End]
    ) -> Iterator[EncodedEvent]:
        for lane, wave in enumerate(window):
            self._batch[len(self._slots)] = wave
            self._slots.append(_Slot(track, lane, frames))
            if len(self._slots) == len(self._batch):
                yield from self._encode(ending)

    def _encode(self, ending: list[End]) -> Iterator[EncodedEvent]:
        if self._slots:
            self._batch[len(self._slots) :] = 0
            with self._clock.stage(self.name), machine_errors("encoding"):
                stored: NDArray[Any] = self._codec.encode_windows(self._batch)
            slots, self._slots = self._slots, []
            for slot, frames in zip(slots, stored, strict=False):
                yield Stored(slot.track, slot.lane, frames[:, : slot.frames])
        yield from self._ended(ending)

    def _ended(self, ending: list[End]) -> Iterator[EncodedEvent]:
        """Tracks whose windows have all left the pool."""
        waiting = {slot.track for slot in self._slots}
        for end in list(ending):
            if end.track not in waiting:
                ending.remove(end)
                yield end
