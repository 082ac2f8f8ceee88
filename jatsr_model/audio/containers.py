"""How much audio the header of a WAV or AIFF file promises, and whether it is there.

libsndfile corrects such headers silently to what the file holds; a truncated copy would pass as a
short track.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

_Order = Literal["little", "big"]

# Written by programs that cannot seek back to fill in the length (ffmpeg, SoX, streams).
_PLACEHOLDERS = frozenset({0, 0x7FFFF000, 0x7FFFFFFF, *range(0xFFFFFF00, 0x100000000)})
_MAX_CHUNKS = 10_000

_LARGEST_OGG_PAGE = 65307  # bytes


@dataclass(frozen=True)
class Promise:
    """The sample data of a file.

    Attributes:
        size_field: offset of the 32-bit length field of the data chunk.
        stated: bytes of sample data the header states; None for a placeholder.
        present: bytes of sample data in the file.
    """

    size_field: int
    stated: int | None
    present: int

    def frames(self, found: int) -> int | None:
        """Frames that the header promises, where ``found`` frames are in ``present`` bytes."""
        if self.stated is None or not self.present:
            return None
        return round(found * self.stated / self.present)

    @property
    def unstated_data(self) -> bool:
        """The length was never filled in, but there is data."""
        return self.stated is None and self.present > 0


def read_promise(file: BinaryIO) -> Promise | None:
    """Find the sample data of a RIFF, RIFX, RF64, BW64 or AIFF file; None for other files.

    Args:
        file: a seekable binary file; left at an unspecified position.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(12)
    if len(head) < 12:
        return None
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:] == b"WAVE":
        return _wave(file, size, "big" if head[:4] == b"RIFX" else "little")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        found = _find(file, size, b"SSND", "big")
        return None if found is None else _promise(found[0], found[1], size, None)
    return None


def _wave(file: BinaryIO, size: int, order: _Order) -> Promise | None:
    long_size = None
    found = _find(file, size, b"ds64", order)
    if found is not None:  # RF64: 64-bit lengths of the file and of the data
        file.seek(found[0] + 12)
        long_size = int.from_bytes(file.read(8), order)
    found = _find(file, size, b"data", order)
    if found is None:
        return None
    promise = _promise(found[0], found[1], size, long_size)
    if promise.stated is None and found[1] == 0 and _is_chunk(file, found[0] + 4, size, order):
        return Promise(promise.size_field, 0, 0)  # truly empty: other chunks follow
    return promise


def _promise(field: int, stated: int, size: int, long_size: int | None) -> Promise:
    present = max(0, size - (field + 4))
    if stated == 0xFFFFFFFF and long_size:
        stated = long_size
    elif stated in _PLACEHOLDERS:
        return Promise(field, None, present)
    return Promise(field, stated, min(stated, present))


def _find(file: BinaryIO, size: int, name: bytes, order: _Order) -> tuple[int, int] | None:
    """Offset of the length field and the length of the first chunk of that name."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size:
            return None
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:], order)
        if header[:4] == name:
            return position + 4, length
        if header[:4] in (b"data", b"SSND"):
            return None  # nothing wanted here comes after the samples
        position += 8 + length + length % 2
    return None


def _is_chunk(file: BinaryIO, position: int, size: int, order: _Order) -> bool:
    file.seek(position)
    header = file.read(8)
    name_like = len(header) == 8 and header[:4].isascii() and header[:4].decode().isprintable()
    return name_like and position + 8 + int.from_bytes(header[4:], order) <= size + 1


def end_of_id3(file: BinaryIO) -> int:
    """Where the ID3v2 tags at the start of a file end; 0 without any (id3.org, section 3.1)."""
    position = 0
    while True:
        file.seek(position)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
            return position
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        footer = 10 if head[5] & 0x10 else 0
        position += 10 + size + footer


def ends_in_last_page(path: Path) -> bool:
    """Whether the last page of an Ogg file is marked as the end of its stream (RFC 3533)."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
        tail = file.read()
    page = tail.rfind(b"OggS")
    return page >= 0 and len(tail) > page + 5 and bool(tail[page + 5] & 4)
