"""Tags and header facts of an audio file, whatever its format and however damaged."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mutagen
import mutagen.id3

from jatsr_model.audio.tag_errors import PARSER_ERRORS
from pipeline.captions.text import clean, sentence

MAX_CHARACTERS = 300
# The names of each field in ID3, Vorbis comments (also FLAC, Opus), MP4 and APEv2, in this
# order; lower case, they are compared without case.
_KEYS: dict[str, tuple[str, ...]] = {
    "title": ("tit2", "title", "©nam"),
    "artist": ("tpe1", "artist", "©art", "tpe2", "albumartist", "aart", "album artist"),
    "album": ("talb", "album", "©alb"),
    "genre": ("tcon", "genre", "©gen"),
    "date": ("tdrc", "date", "©day", "tyer", "year", "tdrl", "tdor"),
    "copyright": ("tcop", "copyright", "cprt"),
    "license": ("wcop", "license", "licence", "txxx:license", "txxx:licence"),
    "comment": ("comm", "comment", "description", "©cmt"),
}


@dataclass(frozen=True, slots=True)
class Tags:
    """Cleaned tags; an absent one is empty.

    Attributes:
        note: why tags could not be read; empty where they could, even if there were none.
    """

    title: str = ""
    artist: str = ""
    album: str = ""
    genre: str = ""
    date: str = ""
    copyright: str = ""
    license: str = ""
    comment: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, str]:
        """The tags that are there."""
        return {name: value for name, value in asdict(self).items() if value and name != "note"}

    def sentence(self) -> str:
        """A caption: ``Title by Artist. From the album Album. Genre: x.``; may be empty."""
        piece = self.title or ("Music" if self.artist else "")
        if self.artist:
            piece += f" by {self.artist}"
        parts = [piece, self.album and f"From the album {self.album}"]
        parts.append(self.genre and f"Genre: {self.genre}")
        return " ".join(sentence(part) for part in parts if part)


@dataclass(frozen=True)
class HeaderFacts:
    """What the header claims; None where it says nothing usable. Decoding may tell otherwise."""

    seconds: float | None = None
    sample_rate: int | None = None  # Hz
    channels: int | None = None


def read_tags(path: Path) -> Tags:
    """Tags of a file; see ``probe``."""
    return probe(path)[0]


def probe(path: Path) -> tuple[Tags, HeaderFacts]:
    """Read tags and header facts; audio is not decoded.

    Any file is accepted: damaged, foreign or missing ones give empty results and a note.

    Args:
        path: MP3, FLAC, Ogg, Opus, MP4, WAV, AIFF or whatever else mutagen knows.
    """
    try:
        # By descriptor, which has no name: mutagen would also go by the name's ending.
        with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
            found = mutagen.File(file)
        if found is None:
            return Tags(note="no known tag format"), HeaderFacts()
        return _tags(found.tags), _facts(found.info)
    except PARSER_ERRORS as error:
        note = clean(f"tags cannot be read: {type(error).__name__}: {error}", MAX_CHARACTERS)
        return Tags(note=note), HeaderFacts()


def _tags(raw: Any) -> Tags:
    if raw is None:
        return Tags()
    values: dict[str, str] = {}
    for key, value in raw.items():
        # ID3 appends description and language to the name: COMM:desc:eng.
        name = key.lower()
        short = name if name.startswith("txxx:") else name.split(":")[0]
        if short in _WANTED and (text := _text(value)):
            values.setdefault(short, text)
    fields = {
        field: next((values[key] for key in keys if key in values), "")
        for field, keys in _KEYS.items()
    }
    return Tags(**fields)


def _text(value: Any) -> str:
    """Text of an ID3 frame, an APEv2 value, or a list of strings."""
    if isinstance(value, mutagen.id3.TCON):
        parts: Iterable[Any] = value.genres  # resolves the numbers of ID3v1
    elif isinstance(value, mutagen.id3.UrlFrame):
        parts = [value.url]
    elif isinstance(value, mutagen.id3.TextFrame):
        parts = value.text
    else:
        parts = value if isinstance(value, list) else [value]
    texts = (clean(str(part), MAX_CHARACTERS) for part in parts if not isinstance(part, bytes))
    return clean(", ".join(dict.fromkeys(text for text in texts if text)), MAX_CHARACTERS)


def _facts(info: Any) -> HeaderFacts:
    seconds = getattr(info, "length", None)
    usable = isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0
    return HeaderFacts(
        seconds=float(seconds) if usable and seconds is not None else None,
        sample_rate=_positive(getattr(info, "sample_rate", None)),
        channels=_positive(getattr(info, "channels", None)),
    )


def _positive(number: Any) -> int | None:
    return number if isinstance(number, int) and number > 0 else None


_WANTED = frozenset(key for keys in _KEYS.values() for key in keys)
