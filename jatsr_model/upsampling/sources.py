"""Which files are upsampled, and where each goes."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from jatsr_model.audio.sniff import AUDIO_SUFFIXES, SNIFF_BYTES, sniff
from shards.errors import ConfigError
from shards.files import printable
from shards.storage import is_url


@dataclass(frozen=True)
class Planned:
    """An input and its output.

    Attributes:
        source: the input.
        target: the output.
        name: of the output inside OUT, with slashes; of what is no audio, as it is.
        size: bytes of the input.
        mtime_ns: when it was changed.
        skipped: why it is no audio; empty for what is.
        problem: why it cannot be read; empty if it can.
    """

    source: Path
    target: Path
    name: str
    size: int
    mtime_ns: int
    skipped: str = ""
    problem: str = ""


def find_files(inputs: Sequence[str], out: Path, ending: str) -> list[Planned]:
    """All files of the inputs, mirrored under a folder.

    A folder's files keep their paths inside it; with several inputs, below the folder's name. Where
    two inputs would have one output (``a.wav`` and ``a.mp3``), these outputs keep both endings.

    Args:
        inputs: files and folders.
        out: the folder, which is not searched.
        ending: of the outputs, such as ``.flac``.

    Raises:
        ConfigError: an input is not there, is a URL or OUT; an output would replace an input or
            another output.
    """
    found: dict[Path, PurePath] = {}
    for text in inputs:
        source = _local(text)
        if source.resolve() == out.resolve():
            raise ConfigError(
                f"OUT {out}: it is the input folder itself",
                hint="choose another folder; it may lie inside, and is then not searched",
            )
        if source.is_file():
            found.setdefault(source, PurePath(source.name))
        else:
            inside = PurePath(source.resolve().name) if len(inputs) > 1 else PurePath()
            for path in _walk(source, out.resolve()):
                found.setdefault(path, inside / path.relative_to(source))
    looks = {source: _look(source) for source in found}
    audio = [source for source in found if not looks[source].skipped]
    taken = Counter(found[source].with_suffix(ending) for source in audio)
    planned = []
    for source, place in found.items():
        target = place if looks[source].skipped else place.with_suffix(ending)
        if taken[target] > 1:
            target = place.with_name(place.name + ending)
        name = printable(target.as_posix())
        planned.append(Planned(source, out / target, name, *looks[source]))
    _expect_apart(planned)
    return sorted(planned, key=lambda item: os.fsencode(item.name))


def one_file(text: str, target: Path) -> Planned:
    """A single input whose output was named.

    Raises:
        ConfigError: it is not there, or is the output.
    """
    source = _local(text)
    info = source.stat()
    planned = Planned(source, target, target.name, info.st_size, info.st_mtime_ns)
    _expect_apart([planned])
    return planned


def refuse_url(name: str, text: str) -> None:
    """Say that URLs are not for now.

    Raises:
        ConfigError: it is one.
    """
    if is_url(text):
        raise ConfigError(
            f"{name} {text}: jatsr upsample works on local files only",
            hint="copy the files to this machine first, and the results back",
        )


def _local(text: str) -> Path:
    refuse_url("IN", text)
    source = Path(text)
    if not source.exists():
        raise ConfigError(f"IN {text}: no such file or folder", hint="check its name")
    return source


class _Look(NamedTuple):
    """The last fields of ``Planned``."""

    size: int = 0
    mtime_ns: int = 0
    skipped: str = ""
    problem: str = ""


def _look(source: Path) -> _Look:
    """What a file is, by its first bytes."""
    try:
        info = source.stat()
        if not stat.S_ISREG(info.st_mode):
            return _Look(skipped="not a regular file")
        with source.open("rb", buffering=0) as file:
            kind, what = sniff(file.read(SNIFF_BYTES), source.name)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        is_audio = source.suffix.lower() in AUDIO_SUFFIXES
        return _Look(problem=reason) if is_audio else _Look(skipped=f"not audio; {reason}")
    skipped = f"not audio: {what}" if kind == "other" else ""
    return _Look(info.st_size, info.st_mtime_ns, skipped)


def _walk(root: Path, excluded: Path) -> Iterator[Path]:
    """Files below a folder in a stable order; folders are entered once even if links loop."""
    entered: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(root, followlinks=True, onerror=_unreadable):
        here = Path(folder)
        info = here.stat()
        if (info.st_dev, info.st_ino) in entered or here.resolve() == excluded:
            names.clear()
            continue
        entered.add((info.st_dev, info.st_ino))
        names.sort(key=os.fsencode)
        yield from (here / name for name in sorted(files, key=os.fsencode))


def _unreadable(error: OSError) -> None:
    raise ConfigError(
        f"IN {error.filename}: the folder cannot be read: {error.strerror}",
        hint="give yourself access to it, or name the folders beside it",
    ) from error


def _expect_apart(planned: Sequence[Planned]) -> None:
    """No output replaces an input or another output."""
    sources = {item.source.resolve(): item for item in planned}
    targets: dict[Path, Planned] = {}
    for item in planned:
        if item.skipped:
            continue
        target = item.target.resolve()
        if target in sources:
            raise ConfigError(
                f"OUT: {item.target} would replace the input {sources[target].source}",
                hint="choose another folder for OUT, or another --format",
            )
        other = targets.setdefault(target, item)
        if other is not item:
            raise ConfigError(
                f"IN: {other.source} and {item.source} would both become {item.target}",
                hint="upsample them one after the other, into two folders",
            )
