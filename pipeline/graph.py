"""The stage graph of a build, in one place.

    decode -> condition -> degrade -> describe -> encode -> pack
    [          cpu, one track at a time      ]  [accelerator, tracks pooled]  [cpu]

Engines run the whole graph where the audio is: PCM never leaves the process that decoded it.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jatsr_model.codecs import Codec, CodecSpec, load
from pipeline.captions import CaptionChain
from pipeline.clock import StageClock
from pipeline.config import Channels
from pipeline.engines.base import Progress, Run
from pipeline.parts import PartStore
from pipeline.plan import TrackTask
from pipeline.records import Begin, Dropped, End, Event, Pcm, TrackResult
from pipeline.stages.condition import Condition
from pipeline.stages.degrade import LowRes
from pipeline.stages.encode import Encode
from pipeline.stages.loudness import GainPolicy
from pipeline.stages.lowres import Degrade
from pipeline.stages.pack import Pack
from pipeline.stages.source import Source
from pipeline.stages.spectrum import Describe
from shards.errors import EnvironmentFailure, JatsrError, TrackError, TrackSkipped
from shards.storage import machine_errors

STAGES = (Source, Condition, Degrade, Describe, Encode, Pack)
STAGE_VERSIONS = {stage.name: stage.version for stage in STAGES}


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """What the stages need; picklable, the same for every worker."""

    codec: CodecSpec
    channels: Channels
    low_res: tuple[LowRes, ...]
    gain: GainPolicy
    captions: CaptionChain
    model_captions: Mapping[str, str]
    excerpt_frames: int
    parts: Path
    scratch: Path


class Graph:
    """The stages of one worker."""

    def __init__(
        self, config: GraphConfig, codec: Codec, report: Callable[[Progress], None]
    ) -> None:
        clock = self._clock = StageClock()
        self._report = report
        channels = 2 if config.channels == "stereo" else 1
        variants = len(config.low_res)
        self._decode = Source(codec.sample_rate, config.channels, clock, lambda: report(Progress()))
        self._condition = Condition(config.gain, config.captions, config.model_captions, clock)
        self._degrade = Degrade(config.low_res, config.scratch, clock)
        self._describe = Describe(1 + variants, config.excerpt_frames, codec.hop, clock)
        self._encode = Encode(codec, clock)
        self._pack = Pack(
            codec, PartStore(config.parts), variants, channels, config.excerpt_frames, clock
        )

    def run(self, tasks: Iterator[TrackTask]) -> Iterator[TrackResult]:
        """Build the parts of tracks; exactly one result per task, not always in order.

        Raises:
            EnvironmentFailure: the machine, not a track, is at fault.
        """
        return self._pack(self._encode(self._events(tasks)))

    def _events(self, tasks: Iterator[TrackTask]) -> Iterator[Event]:
        for task in tasks:
            try:
                with machine_errors(f"working on {task.path}"):
                    yield from self._track(task)
            except EnvironmentFailure:
                raise
            except (TrackError, TrackSkipped) as error:
                yield Dropped(task, error)
            except JatsrError as error:
                yield Dropped(task, TrackError(error.message, hint=error.hint, stage="decode"))
            except Exception as error:  # noqa: BLE001  the ledger keeps it, with its traceback
                yield Dropped(task, _unexpected(error))

    def _track(self, task: TrackTask) -> Iterator[Event]:
        signal = self._degrade(self._condition(self._decode(task)))
        yield Begin(task.track, signal.samples, signal.facts)
        samples = 0
        for event in self._describe(signal):
            yield event
            if isinstance(event, Pcm):
                samples += event.block.shape[-1]
                self._report(Progress(event.block.shape[-1] / signal.rate, self._clock.take()))
        _expect_unchanged(task, samples, signal.samples)
        yield End(task.track)


def _expect_unchanged(task: TrackTask, samples: int, measured: int) -> None:
    """Two passes over a file, and the scan before them, must have seen the same content."""
    info = os.stat(task.path)
    if (info.st_size, info.st_mtime_ns) != (task.size, task.mtime_ns) or samples != measured:
        raise TrackError(
            "expected a file that stays as it is, found it changed during the build",
            hint="run the same command again when nothing writes to the file",
            stage="decode",
        )


def _unexpected(error: Exception) -> TrackError:
    where = "".join(traceback.format_tb(error.__traceback__)[-3:])
    return TrackError(
        f"unexpected {type(error).__name__}: {error}\n{where}".rstrip(),
        hint="this is a defect in jatsr, not in your file alone: please report it with this text",
        stage="unknown",
    )


@dataclass(frozen=True)
class TrackSession:
    """Builds parts; runs on any engine."""

    config: GraphConfig

    def open(self, report: Callable[[Progress], None]) -> Run:
        """Load the codec once per worker; see ``Session``."""
        importlib.import_module("webdataset")  # slow, and not the first track's fault
        codec = load(self.config.codec)
        if torch := sys.modules.get("torch"):
            # Parallelism comes from workers; the thread count must not change with the engine.
            torch.set_num_threads(1)
        return Graph(self.config, codec, report).run
