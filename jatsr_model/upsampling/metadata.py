"""Tags and cover art of one file, in any format, into another."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import mutagen
import mutagen.apev2
import mutagen.asf
import mutagen.flac
import mutagen.id3
import mutagen.mp4
import mutagen.oggopus
import mutagen.oggvorbis
import soundfile as sf

from jatsr_model.audio.tag_errors import PARSER_ERRORS
from jatsr_model.upsampling import tag_names

UPSAMPLED = "UPSAMPLED"  # name of the tag that says what was generated
Container = Literal["wav", "flac", "ogg", "opus"]
_LARGEST_PICTURE = (1 << 24) - (1 << 12)  # bytes; a FLAC block holds no more


@dataclass(frozen=True)
class Picture:
    """Cover art: ``kind`` numbers as in ID3 (3 is the front cover)."""

    data: bytes = field(repr=False)
    mime: str
    kind: int = 3
    text: str = ""


@dataclass(frozen=True)
class Metadata:
    """What a file says about itself.

    Attributes:
        fields: names as in Vorbis comments, upper case -> values in order.
        pictures: cover art.
        note: what could not be read; empty if nothing.
    """

    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    note: str = ""


def read_metadata(path: Path) -> Metadata:
    """Tags and cover art of any file; a damaged or foreign one gives a note instead.

    What describes the coding of the old file (encoder, length, gapless data) is left out.
    """
    chunk_tags: dict[str, tuple[str, ...]] = {}
    try:
        chunk_tags = _of_chunks(path)
        # By descriptor, which has no name: mutagen would also go by the name's ending.
        with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:
            found = mutagen.File(file)
        if found is None:
            return Metadata(chunk_tags)
        fields: dict[str, tuple[str, ...]] = {}
        for name, value in _fields(found.tags):
            if value and name not in tag_names.TECHNICAL:
                fields[name] = (*fields.get(name, ()), value)
        pictures = list(_pictures(found))
    except PARSER_ERRORS as error:
        note = f"tags cannot be read: {type(error).__name__}: {error}"
        return Metadata(chunk_tags, note=note)
    fields = {**chunk_tags, **fields}
    kept = tuple(p for p in pictures if 0 < len(p.data) <= _LARGEST_PICTURE)
    note = "" if len(kept) == len(pictures) else "a picture is too large for a tag"
    return Metadata(fields, kept, note)


def write_metadata(file: IO[bytes], container: Container, metadata: Metadata) -> None:
    """Add tags to a finished file.

    Args:
        file: open for reading and writing.
        container: what it is; WAV may also be RF64.
        metadata: what to write.
    """
    file.seek(0)
    if container == "wav":
        _append_chunk(file, b"id3 ", _id3(metadata))
        return
    pictures = [_flac_picture(picture) for picture in metadata.pictures]
    if container == "flac":
        flac = mutagen.flac.FLAC(file)
        flac.update({name: list(values) for name, values in metadata.fields.items()})
        for picture in pictures:
            flac.add_picture(picture)
        file.seek(0)
        flac.save(file)
        return
    kind = mutagen.oggopus.OggOpus if container == "opus" else mutagen.oggvorbis.OggVorbis
    ogg = kind(file)
    ogg.update({name: list(values) for name, values in metadata.fields.items()})
    if pictures:
        blocks = [base64.b64encode(picture.write()).decode() for picture in pictures]
        ogg["METADATA_BLOCK_PICTURE"] = blocks
    file.seek(0)
    ogg.save(file)


def _of_chunks(path: Path) -> dict[str, tuple[str, ...]]:
    """Text chunks of WAV (LIST INFO) and AIFF files, which mutagen knows nothing of."""
    with path.open("rb", buffering=0) as file:
        if file.read(4) not in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            return {}
        file.seek(0)
        with suppress(sf.LibsndfileError), sf.SoundFile(file.fileno(), closefd=False) as sound:
            found = sound.copy_metadata()
            texts = {name.upper(): value.strip() for name, value in found.items()}
            return {name: (text,) for name, text in texts.items() if text and name != "SOFTWARE"}
    return {}


def _fields(tags: Any) -> Iterator[tuple[str, str]]:
    """Names and values in the terms of Vorbis comments."""
    if tags is None:
        return
    if isinstance(tags, mutagen.id3.ID3):
        for frame in tags.values():
            yield from tag_names.of_id3(frame)
    elif isinstance(tags, mutagen.mp4.MP4Tags):
        for name, values in tags.items():
            yield from tag_names.of_mp4(name, values)
    else:
        for name in dict.fromkeys(tags.keys()):
            plain = name.upper().removeprefix("WM/")
            if re.fullmatch("[ -<>-}]+", plain):  # what the name of a Vorbis comment may be
                yield from ((tag_names.PLAIN.get(plain, plain), x) for x in _texts(tags[name]))


def _texts(values: Any) -> Iterator[str]:
    """The text in one value or several; pictures and other bytes are none."""
    for value in values if isinstance(values, list) else [values]:
        if isinstance(value, mutagen.apev2.APETextValue):
            yield from value
        elif isinstance(value, mutagen.asf.ASFUnicodeAttribute | str):
            yield str(value)


def _pictures(found: Any) -> Iterator[Picture]:
    tags = found.tags
    for picture in getattr(found, "pictures", ()):
        yield Picture(picture.data, picture.mime, picture.type, picture.desc)
    if isinstance(tags, mutagen.id3.ID3):
        for frame in tags.getall("APIC"):
            yield Picture(frame.data, frame.mime, int(frame.type), frame.desc)
    elif isinstance(tags, mutagen.mp4.MP4Tags):
        for cover in tags.get("covr", ()):
            is_png = cover.imageformat == mutagen.mp4.MP4Cover.FORMAT_PNG
            yield Picture(bytes(cover), "image/png" if is_png else "image/jpeg")
    elif tags is not None and "METADATA_BLOCK_PICTURE" in tags:
        for block in tags["METADATA_BLOCK_PICTURE"]:
            picture = mutagen.flac.Picture(base64.b64decode(block))
            yield Picture(picture.data, picture.mime, picture.type, picture.desc)


def _flac_picture(picture: Picture) -> mutagen.flac.Picture:
    block = mutagen.flac.Picture()
    block.data, block.mime = picture.data, picture.mime
    block.type, block.desc = picture.kind, picture.text
    return block


def _id3(metadata: Metadata) -> bytes:
    tags = mutagen.id3.ID3()
    for frame in tag_names.to_id3(metadata.fields):
        tags.add(frame)
    for number, one in enumerate(metadata.pictures):
        text = one.text
        if any(other.text == text for other in metadata.pictures[:number]):
            text = f"{text} {number + 1}".strip()  # of two with one text ID3 keeps the last
        tags.add(mutagen.id3.APIC(3, one.mime, one.kind, text, one.data))
    data = io.BytesIO()
    tags.save(data, v1=0)
    return data.getvalue()


def _append_chunk(file: IO[bytes], name: bytes, data: bytes) -> None:
    """Add a chunk at the end of a RIFF or RF64 file."""
    head = file.read(20)
    size = file.seek(0, 2)
    file.write(b"\0" * (size % 2) + name + len(data).to_bytes(4, "little"))
    file.write(data + b"\0" * (len(data) % 2))
    total = file.tell() - 8
    is_long = head[:4] == b"RF64"  # whose first chunk, ds64, begins with the size of the file
    file.seek(20 if is_long else 4)
    file.write(total.to_bytes(8 if is_long else 4, "little"))
