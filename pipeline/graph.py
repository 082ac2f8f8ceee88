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
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from jatsr_model.audio.loudness import GainPolicy
from jatsr_model.codecs import Codec, CodecSpec, load
from pipeline.captions import CaptionChain
from pipeline.clock import StageClock
from pipeline.config import Channels
from pipeline.delivery import Piece, Staged, open_sender
from pipeline.engines.base import Progress, Run
from pipeline.fetch import local_copy
from pipeline.identify import track_id
from pipeline.parts import PartStore
from pipeline.plan import TrackTask
from pipeline.records import Begin, Dropped, End, Event, Pcm, TrackResult
from pipeline.scan import expect_visible, without_secrets
from pipeline.stages.condition import Condition
from pipeline.stages.encode import Encode
from pipeline.stages.lowres import Degrade
from pipeline.stages.pack import Pack
from pipeline.stages.source import Source
from pipeline.stages.spectrum import Describe
from pipeline.stages.variants import LowRes
from shards.errors import ChangedError, EnvironmentFailure, JatsrError, TrackError, TrackSkipped
from shards.files import machine_errors
from shards.storage import is_url

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


class Graph:
    """The stages of one worker.

    Args:
        config: what the stages need.
        codec: loaded.
        parts: where parts go.
        scratch: where large temporary files go.
        report: called with progress.
    """

    def __init__(
        self,
        config: GraphConfig,
        codec: Codec,
        parts: PartStore,
        scratch: Path,
        report: Callable[[Progress], None],
    ) -> None:
        clock = self._clock = StageClock()
        self._report = report
        self._scratch = scratch
        self._sidecars = "sidecar" in config.captions.sources
        channels = 2 if config.channels == "stereo" else 1
        variants = len(config.low_res)
        self._decode = Source(codec.sample_rate, config.channels, clock, lambda: report(Progress()))
        self._condition = Condition(config.gain, config.captions, config.model_captions, clock)
        self._degrade = Degrade(config.low_res, scratch, clock)
        self._describe = Describe(1 + variants, config.excerpt_frames, codec.hop, clock)
        self._encode = Encode(codec, clock)
        self._pack = Pack(codec, parts, variants, channels, config.excerpt_frames, clock)

    def run(self, tasks: Iterator[TrackTask]) -> Iterator[TrackResult]:
        """Build the parts of tracks; exactly one result per task, not always in order.

        Raises:
            EnvironmentFailure: the machine, not a track, is at fault.
        """
        return self._pack(self._encode(self._events(tasks)))

    def _events(self, tasks: Iterator[TrackTask]) -> Iterator[Event]:
        for task in tasks:
            action = f"working on {without_secrets(task.path)}"
            try:
                with machine_errors(action), ExitStack() as stack:
                    yield from self._track(task, self._fetch(task, stack))
            except EnvironmentFailure:
                raise
            except (TrackError, TrackSkipped) as error:
                yield Dropped(task, error)
            except JatsrError as error:
                yield Dropped(task, TrackError(error.message, hint=error.hint, stage="decode"))
            except Exception as error:  # noqa: BLE001  the ledger keeps it, with its traceback
                yield Dropped(task, _unexpected(error))

    def _fetch(self, task: TrackTask, stack: ExitStack) -> Path:
        """The track as a local file, for as long as ``stack`` is open."""
        if not is_url(task.path):
            return Path(task.path)
        with self._clock.stage("fetch"):
            try:
                copy = local_copy(task.path, self._scratch, sidecar=self._sidecars)
                path = stack.enter_context(copy)
            except FileNotFoundError as error:
                raise TrackError(
                    "expected the object that was found before, but it is gone",
                    hint="run the same command again when nothing changes the sources",
                    stage="fetch",
                ) from error
            except ChangedError as error:
                raise _changed("fetch") from error
            if track_id(path) != task.track:
                raise _changed("fetch")
        return path

    def _track(self, task: TrackTask, path: Path) -> Iterator[Event]:
        local = replace(task, path=str(path))
        signal = self._degrade(self._condition(self._decode(local)))
        yield Begin(task.track, signal.samples, signal.facts)
        samples = 0
        for event in self._describe(signal):
            yield event
            if isinstance(event, Pcm):
                samples += event.block.shape[-1]
                self._report(Progress(event.block.shape[-1] / signal.rate, self._clock.take()))
        # Two passes over a file, and the scan before them, must have seen the same content.
        info = os.stat(path)
        touched = path == Path(task.path) and (info.st_size, info.st_mtime_ns) != (
            task.size,
            task.mtime_ns,
        )
        if samples != signal.samples or touched:
            raise _changed("decode")
        yield End(task.track)


def _changed(stage: str) -> TrackError:
    return TrackError(
        "expected a file that stays as it is, found it changed during the build",
        hint="run the same command again when nothing writes to the file",
        stage=stage,
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
    """Builds parts; runs on any engine.

    Args:
        config: what the stages need.
        staged: where parts are staged.
        sources: local paths that a worker must see.
    """

    config: GraphConfig
    staged: Staged
    sources: tuple[str, ...] = ()

    def open(self, report: Callable[[Progress], None]) -> Run:
        """Load the codec once per worker; see ``Session``."""
        expect_visible(self.sources)
        importlib.import_module("webdataset")  # slow, and not the first track's fault
        codec = load(self.config.codec)
        if torch := sys.modules.get("torch"):
            # Parallelism comes from workers; the thread count must not change with the engine.
            torch.set_num_threads(1)

        def run(tasks: Iterator[TrackTask]) -> Iterator[TrackResult | Piece]:
            with open_sender(self.staged) as sender:
                graph = Graph(self.config, codec, sender.parts, sender.scratch, report)
                yield from sender.send(graph.run(tasks))

        return run
