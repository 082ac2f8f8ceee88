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

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3 or another file with an ID3 tag"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "True Audio"),
    (0, b"DSD ", "DSF"),
    (0, b"FRM8", "DSDIFF"),
    (0, b"#!AMR", "AMR"),
    (0, b"ADIF", "AAC"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
)
_RIFF_LIKE = {b"RIFF": b"WAVE", b"RF64": b"WAVE", b"BW64": b"WAVE", b"RIFX": b"WAVE"}
_BRANDS = (b"M4A ", b"M4B ", b"M4P ", b"mp41", b"mp42", b"isom", b"iso2", b"iso5", b"iso6", b"dash",
           b"3gp4", b"3gp5", b"3gp6")  # fmt: skip
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
    for offset, magic, what in _MAGIC:
        if head[offset:].startswith(magic):
            return "audio", what
    if _RIFF_LIKE.get(head[:4]) == head[8:12] and len(head) >= 12:
        return "audio", "WAV"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio", "AIFF"
    claims = PurePath(name).suffix.lower() in AUDIO_SUFFIXES
    if head[4:8] == b"ftyp":
        return (
            ("audio", "MP4 audio")
            if claims or head[8:12] in _BRANDS[:3]
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
