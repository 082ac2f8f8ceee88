"""Re-hash, re-read and re-derive everything a dataset says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from shards.files import sha256_json
from shards.layout import LEDGER, MANIFEST, SAMPLES, SILENCE, SPLITS, STATISTICS
from shards.manifest import Manifest, read_manifest
from shards.problems import Checked, Problem, guard
from shards.silence import read_silence
from shards.statistics import (
    Moments,
    Spaces,
    merge_all,
    read_shard_statistics,
    read_totals,
)
from shards.storage import Store, StoreLike, open_store
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table
from shards.verify_shard import check_shard

__all__ = ["Checked", "Problem", "verify"]


def verify(dataset: StoreLike, spaces: Spaces | None) -> Iterator[Checked]:
    """Check a dataset, one shard or file at a time; a remote shard is downloaded once.

    Args:
        dataset: its place.
        spaces: the codec's; None leaves the statistics unchecked.

    Raises:
        FormatError: there is no dataset.
    """
    store = open_store(dataset)
    manifest = read_manifest(store)
    rows = guard(SAMPLES, lambda: read_table(store, SAMPLES, SAMPLES_SCHEMA))
    table = rows if isinstance(rows, list) else []
    by_shard: dict[str, list[Mapping[str, Any]]] = {}
    for row in table:
        by_shard.setdefault(row["shard"], []).append(row)
    yield Checked("files", tuple(_check_files(store, manifest, by_shard)))
    yield Checked("ledger", tuple(_check_ledger(store, manifest, table)))
    derived: dict[str, dict[str, Mapping[str, Moments]]] = {}
    for split in SPLITS:
        for entry in manifest.splits.get(split, ()):
            checked, moments = check_shard(
                store, manifest, entry, by_shard.get(entry.name, []), spaces
            )
            if moments is not None:
                derived.setdefault(split, {})[entry.name] = moments
            yield checked
    if spaces is not None:
        yield Checked("statistics", tuple(_check_statistics(store, derived)))


def _check_files(
    store: Store, manifest: Manifest, by_shard: Mapping[str, Sequence[Any]]
) -> Iterator[Problem]:
    fingerprint = sha256_json(manifest.config)
    if fingerprint != manifest.fingerprint:
        yield Problem(
            MANIFEST,
            f"says fingerprint {manifest.fingerprint[:12]}, but that of its config is "
            f"{fingerprint[:12]}",
        )
    silence = guard(SILENCE, lambda: read_silence(store, manifest))
    if isinstance(silence, Problem):
        yield silence
    for name, expected in sorted(manifest.files.items()):
        if name == SILENCE:
            continue
        try:
            found = store.sha256(name)
        except FileNotFoundError:
            yield Problem(name, "missing")
            continue
        if found != expected:
            yield Problem(
                name,
                f"expected sha256 {expected[:12]}, found {found[:12]}; an update may have been "
                "interrupted: run the same jatsr build command again",
            )
    listed = {entry.name for entry in manifest.shards}
    for split in SPLITS:
        for name in (f"{split}/{entry}" for entry in store.child(split).entries()):
            if name not in listed:
                yield Problem(name, "not in dataset.json; an interrupted update may have left it")
    for shard in sorted(set(by_shard) - listed):
        yield Problem(SAMPLES, f"lists samples of {shard}, which is not in dataset.json")


def _check_ledger(
    store: Store, manifest: Manifest, samples: Sequence[Mapping[str, Any]]
) -> Iterator[Problem]:
    ledger = guard(LEDGER, lambda: read_table(store, LEDGER, LEDGER_SCHEMA))
    if isinstance(ledger, Problem):
        yield ledger
        return
    excerpts: dict[str, int] = {}
    for row in samples:
        excerpts[row["track"]] = excerpts.get(row["track"], 0) + 1
    ok = {row["track"]: row["excerpts"] for row in ledger if row["status"] == "ok"}
    if ok != excerpts:
        differing = sorted(t for t in {*ok, *excerpts} if ok.get(t) != excerpts.get(t))
        yield Problem(LEDGER, f"does not balance with {SAMPLES}: tracks {differing[:3]}")
    total = sum(entry.samples for entry in manifest.shards)
    if len(samples) != total:
        yield Problem(SAMPLES, f"expected {total} rows, found {len(samples)}")
    if len({row["key"] for row in samples}) != len(samples):
        yield Problem(SAMPLES, "holds a key twice")


def _check_statistics(
    store: Store,
    derived: Mapping[str, Mapping[str, Mapping[str, Moments]]],
) -> Iterator[Problem]:
    published = guard(STATISTICS, lambda: read_shard_statistics(store))
    if isinstance(published, Problem):
        yield published
        return
    for split, shards in derived.items():
        for name, streams in shards.items():
            for stream, moments in streams.items():
                there = published.get(split, {}).get(name, {}).get(stream)
                if there is None or not there.same_as(moments):
                    yield Problem(STATISTICS, f"{name} {stream}: not what the shard's latents give")
        totals = guard(STATISTICS, partial(read_totals, store, split))
        if isinstance(totals, Problem):
            yield totals
            continue
        for stream in next(iter(shards.values()), {}):
            parts = [shards[name][stream] for name in sorted(shards)]
            total = totals.get(stream)
            if total is None or not merge_all(parts, len(parts[0].mean)).same_as(total):
                yield Problem(STATISTICS, f"{split} {stream}: totals are not the sum of the shards")
