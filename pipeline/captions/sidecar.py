"""Captions written by hand: a text file beside the audio file."""

from __future__ import annotations

from codecs import getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path

from pipeline.captions.text import clean

MAX_CHARACTERS = 2000
READ_BYTES = 64 * 1024  # enough for the characters kept, whatever their encoding


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says; without a text, ``note`` says why, empty if there is no file."""

    text: str = ""
    note: str = ""


def sidecar_path(audio_path: Path) -> Path:
    """``music/song.flac`` -> ``music/song.txt``."""
    return audio_path.with_suffix(".txt")


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar: UTF-8 with or without byte order mark, white space normalised, cut.

    A file that cannot be read or is not UTF-8 costs the track its sidecar, not its place in the
    dataset: the next source of the chain is asked and the note is kept.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(READ_BYTES)
    except FileNotFoundError:
        return Sidecar()
    except OSError as error:
        return Sidecar(note=f"{path.name} cannot be read: {error.strerror or error}")
    try:
        # Incremental: a character cut by the read limit is not an error.
        text = getincrementaldecoder("utf-8-sig")().decode(raw, final=len(raw) < READ_BYTES)
    except UnicodeDecodeError as error:
        return Sidecar(note=f"{path.name} is not UTF-8: {error.reason} at byte {error.start}")
    text = clean(text, MAX_CHARACTERS)
    return Sidecar(text, "" if text else f"{path.name} is empty")
