"""The two parallel parts of a build: tracks to parts, parts to shards."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from dataclasses import replace

from jatsr_model.codecs.of_dataset import on_cpu
from pipeline.assemble import AssembledShard, AssembleSession
from pipeline.captioning import Captioning
from pipeline.captions import parse_chain
from pipeline.config import BuildConfig
from pipeline.delivery import Piece, Receiver
from pipeline.engine_of import Engines
from pipeline.engines.base import Crashed, Progress
from pipeline.engines.inline import InlineEngine
from pipeline.graph import GraphConfig, TrackSession
from pipeline.parts import Part
from pipeline.plan import Plan
from pipeline.records import TrackResult
from pipeline.staging import Staging
from pipeline.tally import BREAKER, Breaker, Tally
from pipeline.ui import Ui
from shards.errors import EnvironmentFailure

_SHARDS_INLINE = 4  # starting processes takes longer than assembling so few


class Execution:
    """Runs what was planned on an engine; everything it finishes is staged.

    Args:
        config: the options.
        staging: where parts and shards go.
        captioning: the captioning model, if there is one.
        engines: what runs it, and the codec.
        ui: progress and messages.
    """

    def __init__(
        self,
        config: BuildConfig,
        staging: Staging,
        captioning: Captioning,
        engines: Engines,
        ui: Ui,
    ) -> None:
        self._config = config
        self._codec = engines.codec
        self._staging = staging
        self._captioning = captioning
        self._engines = engines
        self._ui = ui

    def tracks(
        self, plan: Plan, sources: Sequence[str], tally: Tally, known_failed: Set[str]
    ) -> dict[str, TrackResult]:
        """Results of all planned tracks: of an earlier run where they are staged, else built.

        Args:
            plan: what to build.
            sources: local paths that every worker must see.
            tally: counts what is done.
            known_failed: tracks whose failure is no news.
        """
        parts = self._staging.parts
        tracks = [task.track for task in plan.tasks]
        staged = [part.result for part in parts.find_all(tracks) if part]
        results = {result.track: result for result in staged if result.status != "failed"}
        # Failures are tried again, since the cause may be gone, but not counted again.
        known = known_failed | {result.track for result in staged if result.status == "failed"}
        tally.resumed = len(results)
        todo = [task for task in plan.tasks if task.track not in results]
        if not todo:
            return results
        if results:
            count = f"{len(results)} of {len(plan.tasks)}"
            self._ui.note(f"continuing: {count} tracks are done already")
        captions = self._captioning.run(
            [plan.sources[task.track] for task in todo], self._engines.work, self._ui
        )
        session = TrackSession(self._graph_config(captions), self._staging.staged, tuple(sources))
        self._ui.start("build", sum(task.seconds for task in todo), "audio seconds")
        limit = BREAKER if self._config.max_failed < 1 else len(todo) + 1
        breaker, began = Breaker(limit, known), time.monotonic()
        with closing(Receiver(parts)) as receiver:
            for event in self._engines.work.run(session, todo):
                if isinstance(event, Progress):
                    tally.seconds += event.audio_seconds
                    tally.add_stages(event.stage_seconds)
                    self._ui.advance(event.audio_seconds)
                    continue
                if isinstance(event, Piece):
                    receiver.take(event)
                    continue
                result = _crash_result(event) if isinstance(event, Crashed) else event
                results[result.track] = result
                if result.status == "failed":
                    parts.save(Part(result))
                breaker.see(result)
        tally.wall += time.monotonic() - began
        return results

    def assemble(self, plan: Plan, results: Mapping[str, TrackResult]) -> list[AssembledShard]:
        """Shards of the tracks that are ok; one without any is not written."""
        whole = [
            replace(shard, tracks=tuple(t for t in shard.tracks if results[t].status == "ok"))
            for shard in plan.shards
        ]
        shards = [shard for shard in whole if shard.tracks]
        variants = len(self._config.low_res)
        session = AssembleSession(on_cpu(self._codec), variants, self._staging.staged)
        self._ui.start("assemble", len(shards), "shards")
        done: dict[str, AssembledShard] = {}
        few = len(shards) <= _SHARDS_INLINE
        engine = InlineEngine() if few else self._engines.assembly(self._staging.path is None)
        for event in engine.run(session, shards):
            if isinstance(event, Crashed):
                raise EnvironmentFailure(
                    f"assembling {event.task.name} failed: {event.reason}",
                    hint="run the same command again: it continues",
                )
            if isinstance(event, AssembledShard):
                done[event.key] = event
                self._ui.advance(1)
        return [done[shard.key] for shard in shards]

    def _graph_config(self, captions: Mapping[str, str]) -> GraphConfig:
        config = self._config
        return GraphConfig(
            codec=self._codec,
            channels=config.channels,
            low_res=config.low_res,
            gain=config.gain_policy,
            captions=parse_chain(config.captions),
            model_captions=captions,
            excerpt_frames=config.excerpt_frames(self._codec),
        )


def _crash_result(crash: Crashed) -> TrackResult:
    return TrackResult(
        crash.task.track,
        "failed",
        stage="worker",
        reason=f"expected to be read, but {crash.reason}; it was tried {crash.times} times, "
        "at last alone",
        hint="the file crashes a decoder or needs more memory than there is: convert it to FLAC, "
        "or remove it",
    )
