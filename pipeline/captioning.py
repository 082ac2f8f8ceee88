"""The captioning model as a stage of its own, before the build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.captions import CaptionChain
from pipeline.plan import TrackTask


def caption_missing(
    chain: CaptionChain, tasks: Sequence[TrackTask], device: str, ui: object
) -> Mapping[str, str]:
    """Captions by track."""
    return {}
