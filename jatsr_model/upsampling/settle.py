"""What libsndfile leaves to chance or leaves out, put right in a finished file."""

from __future__ import annotations

import zlib
from typing import IO

from jatsr_model.upsampling.metadata import Container

# Speaker positions (front left, front right, centre, LFE, back, side), as decoders order them.
_CHANNEL_MASKS = {3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
_HEAD = 256  # bytes in which the chunks before the samples lie
_SERIAL = (1).to_bytes(4, "little")


def settle(file: IO[bytes], container: Container, channels: int) -> None:
    """Make a file a function of its samples, and name its speakers.

    Args:
        file: open for reading and writing, without tags yet.
        container: what it is.
        channels: in WAV order.
    """
    file.seek(0)
    if container == "wav":
        _settle_wave(file, _CHANNEL_MASKS.get(channels))
    elif container in ("ogg", "opus"):
        _settle_ogg(file)


def _settle_wave(file: IO[bytes], mask: int | None) -> None:
    head = file.read(_HEAD)
    if mask is not None:
        file.seek(head.index(b"fmt ") + 28)
        file.write(mask.to_bytes(4, "little"))
    peak = head.find(b"PEAK")  # float files: the time of writing is in it
    if peak >= 0:
        file.seek(peak + 12)
        file.write(b"\0\0\0\0")


def _settle_ogg(file: IO[bytes]) -> None:
    """Number the stream 1 instead of at random, in every page (RFC 3533)."""
    place = 0
    while len(header := file.read(27)) == 27:
        sizes = file.read(header[26])
        body = file.read(sum(sizes))
        page = header[:14] + _SERIAL + header[18:22] + b"\0\0\0\0" + header[26:] + sizes + body
        page = page[:22] + _crc(page).to_bytes(4, "little") + page[26:]
        file.seek(place)
        file.write(page)
        place += len(page)


def _crc(page: bytes) -> int:
    """The checksum of Ogg is zlib's without its reflections and inversions."""
    reflected = ~zlib.crc32(page.translate(_REFLECTED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


_REFLECTED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
