"""Find every file, identify it by content, read what planning needs of its header."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.captions import Tags, probe
from pipeline.sniff import AUDIO_SUFFIXES, SNIFF_BYTES, Kind, sniff
from shards.errors import ConfigError
from shards.layout import TRACK_ID_DIGITS

_CHUNK = 1 << 20
_FILES_PER_TASK = 256
_PARALLEL_FROM = 2048  # files; below that starting processes costs more than it saves
_MIN_BYTES_PER_SECOND = 400.0  # the lowest rate of any codec we read: guards lying headers
_NO_TAGS = Tags()
_FALLBACK_BYTES_PER_SECOND = 24_000.0  # 192 kbit/s, where a header gives no duration


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the sources, before it is opened."""

    path: str
    folder: str  # from the name of its source on, what --split-by folder goes by
    size: int
    mtime_ns: int
    problem: str = ""  # why it cannot be opened
    is_folder: bool = False  # that could not be listed


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file with its identity."""

    found: Found
    kind: Kind
    what: str  # in words
    track: str = ""  # content id; empty where the file could not be read
    seconds: float = 0.0  # of the header, or estimated from the size
    tags: Tags = field(default_factory=Tags)


Known = Mapping[tuple[str, int, int], str]
"""(path, size, mtime_ns) -> content id of an earlier build, so that files are not hashed twice."""


def refuse_url(what: str, path: Path) -> None:
    """Refuse a URL, which would otherwise name a strange local folder.

    Raises:
        ConfigError: ``path`` is one (``pathlib`` has folded its slashes).
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        url = str(path).replace(":/", "://", 1)
        raise ConfigError(f"{what} {url}: expected a local path, found a URL")


def find_files(sources: Sequence[Path], excluded: Path) -> list[Found]:
    """Every file under the sources in a stable order, each once.

    Folders are entered once even where symbolic links loop.

    Args:
        sources: files and folders.
        excluded: a folder that is not entered (the destination).

    Raises:
        ConfigError: a source does not exist, or there is no file in any.
    """
    files: dict[str, Found] = {}
    skip = excluded.resolve()
    for source in sources:
        refuse_url("SOURCE", source)
        if not os.path.exists(source):
            raise ConfigError(f"SOURCE {source}: no such file or folder")
        root = Path(os.path.abspath(source))
        listing = [_stat(root, root.parent)] if root.is_file() else _walk(root, skip)
        for item in listing:
            files.setdefault(item.path, item)
    if not files:
        raise ConfigError(f"SOURCE {' '.join(map(str, sources))}: expected files, found none")
    return [files[path] for path in sorted(files, key=os.fsencode)]


def _walk(root: Path, skip: Path) -> Iterator[Found]:
    entered: set[tuple[int, int]] = set()
    unreadable: list[OSError] = []
    for folder, names, files in os.walk(root, followlinks=True, onerror=unreadable.append):
        try:
            info = os.stat(folder)
        except OSError as error:  # it vanished or was locked while we walked
            unreadable.append(error)
            continue
        identity = (info.st_dev, info.st_ino)
        if identity in entered or Path(folder).resolve() == skip:
            names.clear()
            continue
        entered.add(identity)
        names.sort(key=os.fsencode)
        for name in files:
            yield _stat(Path(folder, name), root)
    for problem in unreadable:
        reason = f"folder cannot be read: {problem.strerror}"
        yield Found(str(problem.filename), ".", 0, 0, reason, is_folder=True)


def _stat(path: Path, root: Path) -> Found:
    folder = Path(root.name, os.path.relpath(path.parent, root)).as_posix()
    try:
        info = path.stat()
    except OSError as error:
        return Found(str(path), folder, 0, 0, error.strerror or str(error))
    if not stat.S_ISREG(info.st_mode):
        return Found(str(path), folder, 0, info.st_mtime_ns, "not a regular file")
    return Found(str(path), folder, info.st_size, info.st_mtime_ns)


def identify(found: Found, known: Known) -> Scanned:
    """Sniff, hash and probe one file; never raises for what is in it."""
    if found.problem:
        return Scanned(found, _kind_by_name(found.path), found.problem)
    track = known.get((found.path, found.size, found.mtime_ns), "")
    try:
        with open(found.path, "rb", buffering=0) as file:
            head = file.read(SNIFF_BYTES)
            kind, what = sniff(head, found.path)
            if kind == "other":
                return Scanned(found, kind, what)
            if not track:
                digest = hashlib.sha256(head)
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                track = digest.hexdigest()[:TRACK_ID_DIGITS]
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        return Scanned(found, _kind_by_name(found.path), problem)
    tags, facts = probe(Path(found.path))
    seconds = _seconds(facts.seconds, found.size)
    # Most files of a large collection have no tags: one object for all of them saves memory.
    return Scanned(found, kind, what, track, seconds, _NO_TAGS if tags == _NO_TAGS else tags)


def scan(
    files: Sequence[Found],
    known: Known,
    progress: Callable[[int], None],
    processes: int,
) -> list[Scanned]:
    """Identify files, in the order given; over several processes where there are many.

    Args:
        files: from ``find_files``.
        known: ids that need no hashing.
        progress: called with the number of files done since the last call.
        processes: how many to use at most.
    """
    if len(files) < _PARALLEL_FROM or processes <= 1:
        result = []
        for found in files:
            result.append(identify(found, known))
            progress(1)
        return result
    chunks = [files[i : i + _FILES_PER_TASK] for i in range(0, len(files), _FILES_PER_TASK)]
    result = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for part in pool.map(_identify_all, ((chunk, _relevant(known, chunk)) for chunk in chunks)):
            result.extend(part)
            progress(len(part))
    return result


def _identify_all(task: tuple[Sequence[Found], Known]) -> list[Scanned]:
    files, known = task
    return [identify(found, known) for found in files]


def _relevant(known: Known, chunk: Sequence[Found]) -> Known:
    keys = ((f.path, f.size, f.mtime_ns) for f in chunk)
    return {key: known[key] for key in keys if key in known}


def _kind_by_name(path: str) -> Kind:
    return "claims-audio" if Path(path).suffix.lower() in AUDIO_SUFFIXES else "other"


def _seconds(header: float | None, size: int) -> float:
    """The header's duration where it is possible at all, else a guess from the size."""
    if header is not None and 0 < header <= size / _MIN_BYTES_PER_SECOND:
        return header
    return size / _FALLBACK_BYTES_PER_SECOND
