"""One thing, many names: tags of ID3, MP4 and others in the terms of Vorbis comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import mutagen.id3
from mutagen import id3

# Name -> ID3 frame, MP4 atom.
_NAMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "TITLE": ("TIT2", "©nam"),
        "SUBTITLE": ("TIT3", ""),
        "GROUPING": ("TIT1", "©grp"),
        "ARTIST": ("TPE1", "©ART"),
        "ALBUMARTIST": ("TPE2", "aART"),
        "CONDUCTOR": ("TPE3", ""),
        "REMIXER": ("TPE4", ""),
        "ALBUM": ("TALB", "©alb"),
        "DATE": ("TDRC", "©day"),
        "ORIGINALDATE": ("TDOR", ""),
        "GENRE": ("TCON", "©gen"),
        "COMPOSER": ("TCOM", "©wrt"),
        "LYRICIST": ("TEXT", ""),
        "ORGANIZATION": ("TPUB", ""),
        "COPYRIGHT": ("TCOP", "cprt"),
        "BPM": ("TBPM", "tmpo"),
        "INITIALKEY": ("TKEY", ""),
        "ISRC": ("TSRC", ""),
        "LANGUAGE": ("TLAN", ""),
        "MOOD": ("TMOO", ""),
        "COMPILATION": ("TCMP", "cpil"),
        "TITLESORT": ("TSOT", "sonm"),
        "ARTISTSORT": ("TSOP", "soar"),
        "ALBUMSORT": ("TSOA", "soal"),
        "ALBUMARTISTSORT": ("TSO2", "soaa"),
        "COMPOSERSORT": ("TSOC", "soco"),
        "LICENSE": ("WCOP", ""),
        "CONTACT": ("WOAR", ""),
        "COMMENT": ("COMM", "©cmt"),
        "LYRICS": ("USLT", "©lyr"),
    }
)
_PAIRS = {"TRCK": "TRACK", "TPOS": "DISC", "trkn": "TRACK", "disk": "DISC"}
_OF_ID3 = {frame: name for name, (frame, _) in _NAMES.items()}
_OF_MP4 = {atom: name for name, (_, atom) in _NAMES.items() if atom}

# APEv2, ASF
PLAIN: Mapping[str, str] = MappingProxyType(
    {
        "YEAR": "DATE",
        "TRACK": "TRACKNUMBER",
        "DISC": "DISCNUMBER",
        "AUTHOR": "ARTIST",
        "ALBUMTITLE": "ALBUM",
        "ALBUM ARTIST": "ALBUMARTIST",
    }
)
# About the coding of the old file, or kept elsewhere.
TECHNICAL = frozenset(
    {
        "ENCODER",
        "ENCODER OPTIONS",
        "ENCODER SETTINGS",
        "ENCODERSETTINGS",
        "ENCODED BY",
        "ENCODING",
        "ITUNNORM",
        "ITUNSMPB",
        "LENGTH",
        "METADATA_BLOCK_PICTURE",
        "COVERART",
        "COVERARTMIME",
        "WAVEFORMATEXTENSIBLE_CHANNEL_MASK",
    }
)


def of_id3(frame: Any) -> Iterator[tuple[str, str]]:
    """Name and values of an ID3 frame; nothing for frames that are no text."""
    if isinstance(frame, id3.TXXX):
        values, name = frame.text, frame.desc.upper()
    elif frame.FrameID in ("COMM", "USLT"):
        text = frame.text
        values = text if isinstance(text, list) else [text]
        name = frame.desc.upper() or _OF_ID3[frame.FrameID]
    elif isinstance(frame, id3.TCON):
        values, name = frame.genres, "GENRE"  # resolves the numbers of ID3v1
    elif isinstance(frame, id3.UrlFrame):
        values, name = [frame.url], _OF_ID3.get(frame.FrameID, "")
    elif isinstance(frame, id3.TextFrame):
        values, name = frame.text, _OF_ID3.get(frame.FrameID, "")
    else:
        return
    if frame.FrameID in _PAIRS:
        for value in values:
            yield from _pair(_PAIRS[frame.FrameID], *str(value).split("/", 1))
    elif name and "=" not in name:
        yield from ((name, str(value)) for value in values)


def of_mp4(name: str, values: Any) -> Iterator[tuple[str, str]]:
    """Name and values of an MP4 atom; nothing for those that are no text."""
    for value in values if isinstance(values, list) else [values]:
        if name in _PAIRS:
            yield from _pair(_PAIRS[name], *(str(number or "") for number in value))
        elif name.startswith("----:"):
            yield name.split(":", 2)[2].upper(), bytes(value).decode("utf-8", "replace")
        elif name in _OF_MP4:
            yield _OF_MP4[name], str(int(value)) if isinstance(value, bool) else str(value)


def to_id3(fields: Mapping[str, tuple[str, ...]]) -> Iterator[Any]:
    """ID3v2.4 frames of Vorbis comments."""
    numbered = {"TRACKNUMBER": ("TRCK", "TRACKTOTAL"), "DISCNUMBER": ("TPOS", "DISCTOTAL")}
    totals = {total for name, (_, total) in numbered.items() if name in fields}
    for name, values in fields.items():
        if name in numbered:
            frame, total = numbered[name]
            text = "/".join([values[0], *fields.get(total, ())[:1]])
            yield mutagen.id3.Frames[frame](encoding=3, text=[text])
        elif name == "COMMENT":
            yield id3.COMM(encoding=3, lang="XXX", desc="", text=list(values))
        elif name == "LYRICS":
            yield id3.USLT(encoding=3, lang="XXX", desc="", text="\n\n".join(values))
        elif name in _NAMES and _NAMES[name][0].startswith("W"):
            yield mutagen.id3.Frames[_NAMES[name][0]](url=values[0])
        elif name in _NAMES and _fits(name, values):
            yield mutagen.id3.Frames[_NAMES[name][0]](encoding=3, text=list(values))
        elif name not in totals:
            yield id3.TXXX(encoding=3, desc=name, text=list(values))


def _fits(name: str, values: tuple[str, ...]) -> bool:
    """Dates of ID3 are numbers; any other text goes under its own name."""
    return "DATE" not in name or all(re.fullmatch(r"[0-9 :T-]{4,19}", value) for value in values)


def _pair(name: str, number: str, total: str = "") -> Iterator[tuple[str, str]]:
    if number.strip():
        yield f"{name}NUMBER", number.strip()
    if total.strip():
        yield f"{name}TOTAL", total.strip()
