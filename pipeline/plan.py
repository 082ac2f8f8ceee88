"""Decide everything before anything runs: what is built, its split and its shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.config import BuildConfig, SplitBy
from pipeline.identify import Scanned
from pipeline.ledger import GONE, ledger_row, place
from shards.files import printable
from shards.layout import SPLITS, shard_name

_SPLIT_SALT = b"jatsr-split:"


@dataclass(frozen=True, slots=True)
class TrackTask:
    """One track to build: the unit of work."""

    track: str
    path: str
    seconds: float  # estimated
    size: int
    mtime_ns: int

    @property
    def key(self) -> str:
        """For engines."""
        return self.track


@dataclass(frozen=True)
class PlannedShard:
    """A shard and its tracks in their final order."""

    name: str
    split: str
    tracks: tuple[str, ...]

    @property
    def key(self) -> str:
        """For engines."""
        return self.name


@dataclass(frozen=True)
class Plan:
    """What a build will do."""

    tasks: tuple[TrackTask, ...]  # in planned order
    shards: tuple[PlannedShard, ...]  # new ones only
    splits: Mapping[str, str]  # track -> split, for all tasks
    ledger: tuple[dict[str, object], ...]  # rows that are final already
    sources: Mapping[str, Scanned] = field(repr=False, default_factory=dict)  # by track

    @property
    def seconds(self) -> float:
        """Estimated audio to build."""
        return sum(task.seconds for task in self.tasks)


def split_of(key: str, val_fraction: float) -> str:
    """``val`` for a fixed share of the keys, by hash: additions never move a key."""
    digest = hashlib.sha256(_SPLIT_SALT + key.encode("utf-8", "surrogateescape")).digest()
    return "val" if int.from_bytes(digest[:8], "big") < val_fraction * 2**64 else "train"


def split_key(scanned: Scanned, by: SplitBy) -> str:
    """What must not be torn apart: the track, its folder or its artist (else its folder)."""
    if by == "artist" and scanned.tags.artist:
        return "artist:" + scanned.tags.artist.casefold()
    if by in ("artist", "folder"):
        return "folder:" + scanned.found.folder
    return scanned.track


def make_plan(
    scanned: Sequence[Scanned],
    config: BuildConfig,
    shard_hours: float,
    done: Mapping[str, Mapping[str, object]],
    first_shard: Mapping[str, int],
    inherited: Mapping[str, str] | None = None,
) -> Plan:
    """Plan a build.

    Args:
        scanned: every file found, sorted by path.
        config: the options.
        shard_hours: hours of audio per shard.
        done: ledger rows of earlier builds by track; those tracks are not built again.
        first_shard: per split, the number of the first new shard.
        inherited: path -> split of a published track; where the file's content has changed, the
            new track gets the old one's split, so that versions never fall into both.
    """
    ledger: list[dict[str, object]] = []
    chosen: dict[str, Scanned] = {}
    for item in scanned:
        row = _settled(item, chosen)
        if row is None:
            chosen[item.track] = item
        else:
            ledger.append(row)
    fresh = {track: item for track, item in chosen.items() if track not in done}
    if config.limit is not None:
        # What is in the dataset already counts first, so that the limit is of the whole.
        room = max(0, config.limit - (len(chosen) - len(fresh)))
        for item in list(fresh.values())[room:]:
            ledger.append(ledger_row(item, "skipped", reason=f"beyond --limit {config.limit}"))
            del chosen[item.track], fresh[item.track]
    for track in chosen:
        if track in done:
            row = {**done[track], **place(chosen[track])}
            ledger.append({**row, "reason": None} if row.get("reason") == GONE else row)
    splits = {
        track: (inherited or {}).get(printable(item.found.path))
        or split_of(split_key(item, config.split_by), config.val_fraction)
        for track, item in fresh.items()
    }
    shards = tuple(
        shard
        for split in SPLITS
        for shard in _fill(
            split,
            [fresh[track] for track in sorted(fresh) if splits[track] == split],
            shard_hours * 3600,
            first_shard.get(split, 0),
        )
    )
    tasks = tuple(_task(fresh[track]) for shard in shards for track in shard.tracks)
    return Plan(tasks, shards, splits, tuple(ledger), chosen)


def _task(item: Scanned) -> TrackTask:
    found = item.found
    return TrackTask(item.track, found.path, item.seconds, found.size, found.mtime_ns)


def _fill(
    split: str, items: Iterable[Scanned], capacity: float, number: int
) -> Iterable[PlannedShard]:
    """Fill shards one after the other up to ``capacity`` seconds."""
    tracks: list[str] = []
    seconds = 0.0
    for item in items:
        if tracks and seconds + item.seconds > capacity:
            yield PlannedShard(shard_name(split, number), split, tuple(tracks))
            number, tracks, seconds = number + 1, [], 0.0
        tracks.append(item.track)
        seconds += item.seconds
    if tracks:
        yield PlannedShard(shard_name(split, number), split, tuple(tracks))


def _settled(item: Scanned, chosen: Mapping[str, Scanned]) -> dict[str, object] | None:
    """The ledger row of a file that needs no work, or None for a track to build."""
    if item.track in chosen:
        return ledger_row(item, "skipped", reason=f"duplicate of {chosen[item.track].found.name}")
    if item.kind == "other" and not item.found.is_folder:
        return ledger_row(item, "skipped", reason=f"not audio: {item.what}")
    if not item.track:
        hint = "check that it is there and readable, or remove it"
        return ledger_row(item, "failed", stage="scan", reason=item.what, hint=hint)
    return None
