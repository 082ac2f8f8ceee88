"""The captioning model as an accelerator stage of its own, before the build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from jatsr_model.codecs.registry import resolve_device
from pipeline.captions import CaptionChain
from pipeline.captions.chain import MODEL
from pipeline.captions.sidecar import read_sidecar, sidecar_path
from pipeline.engines.base import Engine, Progress, Run
from pipeline.fetch import local_copy, remote_sidecar
from pipeline.identify import Scanned
from pipeline.ui import Ui
from shards.errors import ChangedError, ConfigError, TrackError
from shards.storage import is_url


class Captioning:
    """Captions by a model for the tracks whose chain gets as far as the model.

    Args:
        chain: ``--captions``.
        device: ``--device``.
        cache: where captions are kept by content; the user's cache by default.

    Raises:
        ConfigError: the chain names a model that is not there.
    """

    def __init__(self, chain: CaptionChain, device: str, cache: Path | None = None) -> None:
        self._chain = chain
        self._cache = cache or user_cache_path("jatsr") / "captions"
        self._model = chain.model_path if MODEL in chain.sources else None
        self.identity: Mapping[str, Any] | None = None
        if self._model is not None:
            from pipeline.captions.model import model_identity

            self._device = resolve_device(device)
            self.identity = model_identity(self._model, device=self._device)

    def run(self, tracks: Sequence[Scanned], engine: Engine, ui: Ui) -> dict[str, str]:
        """Captions by track, from the cache where they are; the model is loaded only if needed."""
        if self._model is None:
            return {}
        from pipeline.captions.run import CaptionCache, Clip, caption_tracks

        assert self.identity is not None
        cache = CaptionCache(self._cache, self.identity)
        wanted = [item for item in tracks if self._reaches_model(item)]
        kept = {item.track: cache.get(item.track) for item in wanted}
        todo = [(i.track, i.found.path) for i in wanted if kept[i.track] is None]
        captions = {track: text for track, text in kept.items() if text}
        if todo:
            from pipeline.captions.model import AudioCaptioner

            ui.start("captions", len(todo), "tracks")
            captioner = AudioCaptioner(self._model, device=self._device)
            clips: dict[Path, Clip] = {}
            captions |= caption_tracks(
                _decoded(todo, engine, clips),
                captioner,
                cache,
                load=clips.pop,
                progress=ui.advance,
            ).captions
        return captions

    def _reaches_model(self, item: Scanned) -> bool:
        """Whether no source before the model has text; what would have to be measured counts."""
        for source in self._chain.sources[: self._chain.sources.index(MODEL)]:
            if source == "sidecar" and _has_sidecar(item.found.path):
                return False
            if source == "tags" and item.tags.sentence():
                return False
        return True


def _has_sidecar(path: str) -> bool:
    if not is_url(path):
        return bool(read_sidecar(sidecar_path(Path(path))).text)
    return bool(remote_sidecar(path))


@dataclass(frozen=True)
class ClipTask:
    """A track whose middle the model is to hear."""

    key: str
    path: str


@dataclass(frozen=True, eq=False)
class ClipResult:
    """The clip, or None where the file cannot be decoded; the build then says why."""

    key: str
    clip: NDArray[np.float32] | None


@dataclass(frozen=True)
class ClipSession:
    """Decodes clips in workers, which a hostile file may crash."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        """See ``Session``."""
        from pipeline.captions.clip import middle_clip

        def run(tasks: Iterator[ClipTask]) -> Iterator[ClipResult]:
            for task in tasks:
                try:
                    with local_copy(task.path) as path:
                        yield ClipResult(task.key, middle_clip(path))
                except (TrackError, OSError, ConfigError, ChangedError):
                    yield ClipResult(task.key, None)

        return run


def _decoded(
    todo: Sequence[tuple[str, str]], engine: Engine, clips: dict[Path, NDArray[np.float32]]
) -> Iterator[tuple[str, Path]]:
    """Tracks as soon as their clip lies in ``clips``; those that cannot be decoded are left out."""
    for event in engine.run(ClipSession(), [ClipTask(track, path) for track, path in todo]):
        if isinstance(event, ClipResult) and event.clip is not None:
            name = Path(event.key)  # paths of URLs would not tell a//b from a/b
            clips[name] = event.clip
            yield event.key, name
