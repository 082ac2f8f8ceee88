"""Which sources a track's caption may come from, in which order, and which one won."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.captions.measured import Measurements
from pipeline.captions.sidecar import read_sidecar, sidecar_path
from pipeline.captions.tags import Tags
from shards.errors import ConfigError

NONE = "none"
MODEL = "qwen2-audio"
PLAIN_SOURCES = ("sidecar", "tags", "measured")
_HINT = (
    f"give --captions a comma-separated order of {', '.join(PLAIN_SOURCES)} and "
    f"{MODEL}:FOLDER, for example --captions sidecar,tags,measured, or --captions {NONE}"
)


@dataclass(frozen=True)
class CaptionChain:
    """Ordered sources of captions; the first that yields text wins.

    Attributes:
        sources: names, without the model's folder.
        model_path: folder of the captioning model's weights, if it is a source.
    """

    sources: tuple[str, ...]
    model_path: Path | None = None

    def __str__(self) -> str:
        """The text that ``parse_chain`` reads."""
        names = [f"{MODEL}:{self.model_path}" if s == MODEL else s for s in self.sources]
        return ",".join(names) or NONE


@dataclass(frozen=True)
class Caption:
    """A caption and where it came from.

    Attributes:
        text: one line.
        source: ``sidecar``, ``tags``, ``measured`` or ``qwen2-audio``.
        detail: JSON-ready facts of the source; under ``passed_over`` why earlier sources that
            were there could not be used.
    """

    text: str
    source: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def parse_chain(text: str) -> CaptionChain:
    """Read the value of ``--captions``.

    Args:
        text: for example ``sidecar,tags,qwen2-audio:/models/qwen``, or ``none``.

    Raises:
        ConfigError: unknown, repeated or incomplete source.
    """
    if text.strip() == NONE:
        return CaptionChain(())
    sources: list[str] = []
    model_path = None
    for item in text.split(","):
        name, colon, folder = item.strip().partition(":")
        if name == MODEL:
            if not folder:
                raise ConfigError(
                    f"--captions: expected {MODEL}:FOLDER, found {item.strip()!r}",
                    hint="name the folder that holds the model's config.json and weights",
                )
            model_path = Path(folder).expanduser()
        elif name not in PLAIN_SOURCES or colon:
            raise ConfigError(f"--captions: unknown source {item.strip()!r}", hint=_HINT)
        if name in sources:
            raise ConfigError(f"--captions: {name} is given twice", hint=_HINT)
        sources.append(name)
    return CaptionChain(tuple(sources), model_path)


def resolve_caption(
    chain: CaptionChain,
    *,
    audio_path: Path,
    tags: Tags,
    measured: Callable[[], Measurements],
    model_caption: str | None,
) -> Caption | None:
    """The caption of one track.

    Args:
        chain: the order of sources.
        audio_path: the audio file; its sidecar lies beside it.
        tags: of the audio file.
        measured: measures the audio; only called if no earlier source has text.
        model_caption: what the captioning model said, None if it did not.

    Returns:
        The first caption found, or None.
    """
    notes: list[str] = []
    for source in chain.sources:
        caption = None
        if source == "sidecar":
            caption = _from_sidecar(sidecar_path(audio_path), notes)
        elif source == "tags":
            caption = _from_tags(tags, notes)
        elif source == "measured":
            found = measured()
            if text := found.sentence():
                caption = Caption(text, source, found.as_dict())
        elif model_caption:
            caption = Caption(model_caption, source)
        if caption:
            passed = {"passed_over": list(notes)} if notes else {}
            return Caption(caption.text, caption.source, {**caption.detail, **passed})
    return None


def _from_sidecar(path: Path, notes: list[str]) -> Caption | None:
    found = read_sidecar(path)
    if found.note:
        notes.append(found.note)
    return Caption(found.text, "sidecar", {"file": path.name}) if found.text else None


def _from_tags(tags: Tags, notes: list[str]) -> Caption | None:
    if tags.note:
        notes.append(tags.note)
    text = tags.sentence()
    return Caption(text, "tags") if text else None
