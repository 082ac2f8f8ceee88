"""Captioning many tracks with a model, once each: a run of its own before the build."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.captions.clip import middle_clip
from shards.errors import TrackError
from shards.files import canonical_json, sha256_json, write_atomically

Clip = NDArray[np.float32]


class Captioner(Protocol):
    """What is needed of a captioning model."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON-ready facts that determine a caption, besides the audio."""
        ...

    @property
    def batch_size(self) -> int:
        """Clips that are captioned together."""
        ...

    def caption(self, clips: Sequence[Clip]) -> list[str]:
        """One line per clip, mono float32 at 16 kHz."""
        ...


class CaptionCache:
    """One small JSON file per model identity and track content.

    Args:
        folder: where to keep them; created when first written to.
        identity: of the captioner.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._identity = dict(identity)
        self._folder = folder / sha256_json(self._identity)[:16]

    def get(self, track_id: str) -> str | None:
        """The caption kept, or None; a damaged file counts as absent."""
        try:
            kept = json.loads(self._path(track_id).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        valid = isinstance(kept, dict) and kept.get("identity") == self._identity
        caption = kept.get("caption") if valid else None
        return caption if isinstance(caption, str) else None

    def put(self, track_id: str, caption: str) -> None:
        """Keep a caption; a reader never sees half a file."""
        kept = canonical_json({"caption": caption, "identity": self._identity})
        write_atomically(self._path(track_id), kept, durable=False)

    def _path(self, track_id: str) -> Path:
        return self._folder / f"{track_id}.json"


@dataclass
class CaptionRun:
    """Outcome of ``caption_tracks``.

    Attributes:
        captions: by track id; a track on which the model said nothing is absent.
        failures: by track id, why its audio could not be read. The build meets the same error
            and records it; here the track just has no caption.
        generated: captions made now, the others came from the cache.
    """

    captions: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    generated: int = 0


def caption_tracks(
    items: Iterable[tuple[str, Path]],
    captioner: Captioner,
    cache: CaptionCache,
    *,
    load: Callable[[Path], Clip] = middle_clip,
    progress: Callable[[int], None] = lambda done: None,
) -> CaptionRun:
    """Caption every track that is not in the cache; interrupted, it continues where it was.

    Args:
        items: (track id, audio file); a repeated id is captioned once.
        captioner: the model.
        cache: for this captioner's identity.
        load: file -> clip, mono float32 at 16 kHz.
        progress: called with the number of tracks done since the last call.
    """
    run = CaptionRun()
    waiting: dict[str, Clip] = {}
    seen: set[str] = set()
    for track_id, path in items:
        if track_id in seen:
            continue
        seen.add(track_id)
        kept = cache.get(track_id)
        if kept is not None:
            _note(run, track_id, kept)
            progress(1)
            continue
        clip = _clip(run, track_id, path, load)
        if clip is None:
            progress(1)
            continue
        waiting[track_id] = clip
        if len(waiting) == captioner.batch_size:
            _caption(waiting, captioner, cache, run)
            progress(len(waiting))
            waiting = {}
    if waiting:
        _caption(waiting, captioner, cache, run)
        progress(len(waiting))
    return run


def _clip(run: CaptionRun, track_id: str, path: Path, load: Callable[[Path], Clip]) -> Clip | None:
    try:
        clip = load(path)
    except TrackError as error:
        run.failures[track_id] = error.message
        return None
    if len(clip):
        return clip
    run.failures[track_id] = f"{path.name} is too short to be heard"
    return None


def _caption(
    waiting: Mapping[str, Clip], captioner: Captioner, cache: CaptionCache, run: CaptionRun
) -> None:
    captions = captioner.caption(list(waiting.values()))
    for track_id, caption in zip(waiting, captions, strict=True):
        cache.put(track_id, caption)
        _note(run, track_id, caption)
        run.generated += 1


def _note(run: CaptionRun, track_id: str, caption: str) -> None:
    if caption:
        run.captions[track_id] = caption
