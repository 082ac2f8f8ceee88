"""Measure the whole track, then decide its one gain and its caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jatsr_model.audio import loudness
from jatsr_model.audio.loudness import Gain, GainPolicy, Loudness, LoudnessMeter, decide_gain
from pipeline.captions import (
    Caption,
    CaptionChain,
    MeasuredDescriber,
    Measurements,
    read_tags,
    resolve_caption,
)
from pipeline.clock import StageClock
from pipeline.records import Block, Signal
from shards.errors import TrackError


@dataclass(frozen=True)
class Condition:
    """Signal -> the same signal at the target loudness, with everything measured recorded."""

    name: ClassVar = "condition"
    placement: ClassVar = "cpu"
    version: ClassVar = loudness.VERSION

    policy: GainPolicy
    chain: CaptionChain
    model_captions: Mapping[str, str]  # by track, from the captioning stage
    clock: StageClock

    def __call__(self, signal: Signal) -> Signal:
        """Measure and apply.

        Raises:
            TrackSkipped: silent or near-silent, with the measured level.
        """
        level = self._measure(signal)
        if level.samples == 0:
            raise TrackError(
                "expected audio, found 0 samples",
                hint="the file has a header but no audio; replace or remove it",
                stage="decode",
            )
        gain = decide_gain(level, self.policy)
        tags = read_tags(Path(signal.task.path))
        caption = self._caption(signal, tags, level)
        facts = {
            **signal.facts,
            **_level_facts(level, gain),
            "tags": tags.as_dict(),
            "caption": caption.text if caption else "",
            "caption_source": caption.source if caption else "",
            "caption_detail": _content_only(caption),
        }

        def blocks() -> Iterator[Block]:
            return (gain.apply(block) for block in signal.blocks())

        return replace(signal, blocks=blocks, samples=level.samples, facts=facts)

    def _measure(self, signal: Signal) -> Loudness:
        meter = LoudnessMeter(signal.rate, signal.channels)
        for block in signal.blocks():
            with self.clock.stage(self.name):
                meter.push(block)
        return meter.result()

    def _caption(self, signal: Signal, tags: Any, level: Loudness) -> Caption | None:
        def measured() -> Measurements:
            describer = MeasuredDescriber()
            for block in signal.blocks():
                with self.clock.stage("caption"):
                    describer.push(block.mean(axis=0, dtype=np.float32))
            return describer.result(level.lufs)

        with self.clock.stage("caption"):
            return resolve_caption(
                self.chain,
                audio_path=Path(signal.task.path),
                tags=tags,
                measured=measured,
                model_caption=self.model_captions.get(signal.task.track),
            )


def _level_facts(level: Loudness, gain: Gain) -> dict[str, Any]:
    """Levels rounded for reading, except the gain, which must be exact to be undone."""
    return {
        "loudness_lufs": round(level.lufs, 3),
        "peak": round(float(level.peak), 6),
        "gain": gain.gain,
        "gain_db": round(gain.gain_db, 3),
        "gain_limited_by_peak": gain.limited_by_peak,
    }


def _content_only(caption: Caption | None) -> dict[str, Any]:
    """Provenance less what names files: a sample's bytes follow from contents alone."""
    names = ("file", "passed_over")
    return {k: v for k, v in caption.detail.items() if k not in names} if caption else {}
