"""Identify files by content and read what planning needs of their headers, in workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jatsr_model.audio.sniff import AUDIO_SUFFIXES, SNIFF_BYTES, Kind, sniff
from pipeline.captions import Tags, probe
from pipeline.engines.base import Crashed, Engine, Progress, Run
from pipeline.fetch import local_copy
from pipeline.scan import Found, expect_visible
from shards.errors import ChangedError, ConfigError
from shards.files import sha256_file
from shards.layout import TRACK_ID_DIGITS
from shards.storage import is_url, open_store

_FILES_PER_TASK = {False: 256, True: 16}  # on disk, in object storage
_PARALLEL_FROM = {False: 2048, True: 4}  # files; below that starting workers costs more
_MIN_BYTES_PER_SECOND = 400.0  # the lowest rate of any codec we read: guards lying headers
_KEEP_SECONDS = 60.0
_NO_TAGS = Tags()
_FALLBACK_BYTES_PER_SECOND = 24_000.0  # 192 kbit/s, where a header gives no duration


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file with its identity."""

    found: Found
    kind: Kind
    what: str  # in words
    track: str = ""  # content id; empty where the file could not be read
    seconds: float = 0.0  # of the header, or estimated from the size
    tags: Tags = field(default_factory=Tags)


Known = Mapping[tuple[str, int, int], Scanned | str]
"""(path, size, mtime_ns) -> what an earlier run found, or the content id in the published ledger,
so that files are not read twice."""


def scan(
    files: Sequence[Found],
    known: Known,
    engine: Engine,
    sources: Sequence[str],
    progress: Callable[[int], None],
    keep: Callable[[Iterable[Scanned]], None] = lambda scanned: None,
) -> list[Scanned]:
    """Identify files, in the order given; in workers where there are many.

    Args:
        files: from ``find_files``.
        known: what needs no reading.
        engine: runs the workers.
        sources: local paths that every worker must see.
        progress: called with the number of files done since the last call.
        keep: called from time to time with all that is done, so that a kill does not cost it.
    """
    # What an earlier run has found comes first, or keeping what is done would forget it.
    done = {f.path: identify(f, known) for f in files if isinstance(known.get(_key(f)), Scanned)}
    progress(len(done))
    due = time.monotonic() + _KEEP_SECONDS
    for scanned in _identified([f for f in files if f.path not in done], known, engine, sources):
        done |= {item.found.path: item for item in scanned}
        progress(len(scanned))
        if (began := time.monotonic()) >= due:
            keep(done.values())
            took = time.monotonic() - began
            due = began + max(_KEEP_SECONDS, 20 * took)  # a list of millions takes a while
    return [done[found.path] for found in files]


def _identified(
    files: Sequence[Found], known: Known, engine: Engine, sources: Sequence[str]
) -> Iterator[Sequence[Scanned]]:
    """What files are, some at a time."""
    new = [found for found in files if _key(found) not in known]
    remote = any(is_url(found.path) for found in new)
    if len(new) < _PARALLEL_FROM[remote]:
        for found in files:
            yield [identify(found, known)]
        return
    left = {found.path: found for found in files}
    size = _FILES_PER_TASK[remote]
    while left:
        for event in engine.run(
            ScanSession(tuple(sources)), _tasks(list(left.values()), known, size)
        ):
            if isinstance(event, Crashed):
                event = _crashed(event)
            if isinstance(event, ScanResult):
                yield event.scanned
                for item in event.scanned:
                    del left[item.found.path]
        size = 1  # which file of a group crashes its worker?


def _tasks(files: Sequence[Found], known: Known, size: int) -> list[ScanTask]:
    groups = [files[first : first + size] for first in range(0, len(files), size)]
    return [ScanTask(group[0].path, group, _relevant(known, group)) for group in groups]


def _crashed(event: Crashed) -> ScanResult:
    """What becomes of a file that crashes every worker; a group is taken apart instead."""
    files = event.task.files if len(event.task.files) == 1 else ()
    reason = f"cannot be read: {event.reason}"
    return ScanResult(
        event.task.key, [Scanned(found, _kind_by_name(found.path), reason) for found in files]
    )


@dataclass(frozen=True)
class ScanTask:
    """Some files."""

    key: str
    files: Sequence[Found]
    known: Known


@dataclass(frozen=True)
class ScanResult:
    """What they are."""

    key: str
    scanned: Sequence[Scanned]


@dataclass(frozen=True)
class ScanSession:
    """Identifies files; runs on any engine."""

    sources: tuple[str, ...] = ()

    def open(self, report: Callable[[Progress], None]) -> Run:
        """See ``Session``."""
        expect_visible(self.sources)

        def run(tasks: Iterator[ScanTask]) -> Iterator[ScanResult]:
            for task in tasks:
                yield ScanResult(task.key, [identify(f, task.known) for f in task.files])
                report(Progress())

        return run


def identify(found: Found, known: Known) -> Scanned:
    """Sniff, hash and probe one file; never raises for what is in it.

    Args:
        found: the file.
        known: what needs no reading.
    """
    if found.problem:
        return Scanned(found, _kind_by_name(found.path), found.problem)
    earlier = known.get(_key(found))
    if isinstance(earlier, Scanned):
        return replace(earlier, found=found)
    try:
        if is_url(found.path):
            return _identify_object(found, earlier)
        return _identify(found, Path(found.path), earlier)
    except (OSError, ConfigError, ChangedError) as error:  # access to an object can be denied
        text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        reason = text.removeprefix(f"{found.name}: ")
        problem = f"cannot be read: {reason}"
        return Scanned(found, _kind_by_name(found.path), problem)


def track_id(path: Path) -> str:
    """The content id of a file."""
    return sha256_file(path)[:TRACK_ID_DIGITS]


def _identify(found: Found, path: Path, track: str | None) -> Scanned:
    with open(path, "rb", buffering=0) as file:
        kind, what = sniff(file.read(SNIFF_BYTES), found.path)
    if kind == "other":
        return Scanned(found, kind, what)
    tags, facts = probe(path)
    return Scanned(
        found,
        kind,
        what,
        track or track_id(path),
        _seconds(facts.seconds, found.size),
        # Most files of a large collection have no tags: one object for all of them saves memory.
        _NO_TAGS if tags == _NO_TAGS else tags,
    )


def _identify_object(found: Found, track: str | None) -> Scanned:
    """As little as possible is fetched: nothing of what is published, else the head
    of what is not audio.
    """
    if track:
        return Scanned(found, "audio", "", track, _seconds(None, found.size))
    kind, what = sniff(open_store(found.path).read("", 0, SNIFF_BYTES), found.path)
    if kind == "other":
        return Scanned(found, kind, what)
    with local_copy(found.path) as path:
        return _identify(found, path, None)


def _key(found: Found) -> tuple[str, int, int]:
    """Without a time of change nothing tells that the content is still the same."""
    return (found.path, found.size, found.mtime_ns if found.mtime_ns else -1)


def _relevant(known: Known, chunk: Sequence[Found]) -> Known:
    return {_key(found): known[_key(found)] for found in chunk if _key(found) in known}


def _kind_by_name(path: str) -> Kind:
    return "claims-audio" if Path(path).suffix.lower() in AUDIO_SUFFIXES else "other"


def _seconds(header: float | None, size: int) -> float:
    """The header's duration where it is possible at all, else a guess from the size."""
    if header is not None and 0 < header <= size / _MIN_BYTES_PER_SECOND:
        return header
    return size / _FALLBACK_BYTES_PER_SECOND
