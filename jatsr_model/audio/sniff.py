"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

Kind = Literal["audio", "claims-audio", "other"]

AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".wave",
        ".w64",
        ".rf64",
        ".bwf",
        ".flac",
        ".aif",
        ".aiff",
        ".aifc",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".mp2",
        ".m4a",
        ".m4b",
        ".mp4",
        ".aac",
        ".alac",
        ".wma",
        ".ape",
        ".wv",
        ".caf",
        ".au",
        ".snd",
        ".mka",
        ".webm",
        ".ac3",
        ".dsf",
        ".dff",
        ".tta",
        ".amr",
        ".3gp",
        ".spx",
    ]
)
SNIFF_BYTES = 64

_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"fLaC", "FLAC"),
    (b"OggS", "Ogg"),
    (b"ID3", "MP3 or another file with an ID3 tag"),
    (b"caff", "CAF"),
    (b".snd", "AU"),
    (b"MAC ", "Monkey's Audio"),
    (b"wvpk", "WavPack"),
    (b"TTA1", "True Audio"),
    (b"DSD ", "DSF"),
    (b"FRM8", "DSDIFF"),
    (b"#!AMR", "AMR"),
    (b"ADIF", "AAC"),
    (b"riff\x2e\x91\xcf\x11", "Wave64"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
)
_RIFF_LIKE = {b"RIFF": b"WAVE", b"RF64": b"WAVE", b"BW64": b"WAVE", b"RIFX": b"WAVE"}
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x7fELF", "a program"),
)


def sniff(head: bytes, name: str) -> tuple[Kind, str]:
    """Classify a file.

    Args:
        head: its first ``SNIFF_BYTES`` bytes.
        name: its name, which only counts where the bytes do not decide.

    Returns:
        ``audio`` (the bytes say so), ``claims-audio`` (only the name does) or ``other``; and in
        words what it is.
    """
    if head.startswith(_APPLE_DOUBLE):
        return "other", "macOS metadata of another file"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return "audio", what
    if _RIFF_LIKE.get(head[:4]) == head[8:12] and len(head) >= 12:
        return "audio", "WAV"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio", "AIFF"
    claims = PurePath(name).suffix.lower() in AUDIO_SUFFIXES
    if head[4:8] == b"ftyp":
        return (
            ("audio", "MP4 audio")
            if claims or head[8:12] in _AUDIO_BRANDS
            else ("other", "an MP4 video")
        )
    if claims:
        return "claims-audio", "named like audio"
    for magic, what in _OTHERS:
        if head.startswith(magic):
            return "other", what
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return "audio", "MPEG audio"
    if not head:
        return "other", "an empty file"
    if not any(byte < 9 for byte in head):
        return "other", "text"
    return "other", "unknown content"
