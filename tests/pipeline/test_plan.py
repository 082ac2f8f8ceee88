"""Plans: stable splits, fixed shards, every file accounted for."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.captions import Tags
from pipeline.config import BuildConfig
from pipeline.identify import Scanned
from pipeline.plan import make_plan, split_of
from pipeline.scan import Found


def scanned(index: int, *, folder: str = ".", artist: str = "", seconds: float = 60.0) -> Scanned:
    found = Found(f"/music/{folder}/{index:05d}.flac", folder, 1000 + index, 1)
    tags = Tags(artist=artist) if artist else Tags()
    return Scanned(found, "audio", "FLAC", f"{index * 2654435761 % 2**96:024x}", seconds, tags)


def plan_of(items, hours=0.5, done=None, first=None, **options):
    return make_plan(items, BuildConfig(**options), hours, done or {}, first or {})


@given(
    old=st.sets(st.integers(0, 500), min_size=1, max_size=60),
    new=st.sets(st.integers(501, 1000), max_size=60),
    fraction=st.floats(0, 1),
)
@settings(max_examples=50)
def test_additions_never_move_a_track_to_the_other_split(old, new, fraction):
    before = plan_of([scanned(i) for i in sorted(old)], val_fraction=fraction)
    after = plan_of([scanned(i) for i in sorted(old | new)], val_fraction=fraction)
    assert {t: after.splits[t] for t in before.splits} == dict(before.splits)


@given(items=st.lists(st.floats(0.1, 4000), min_size=1, max_size=50), hours=st.floats(0.1, 3))
@settings(max_examples=50)
def test_every_track_has_one_shard_of_its_split_within_capacity(items, hours):
    tracks = [scanned(i, seconds=s) for i, s in enumerate(items)]
    plan = plan_of(tracks, hours=hours)
    placed = [track for shard in plan.shards for track in shard.tracks]
    assert sorted(placed) == sorted(t.track for t in tracks)
    assert [task.track for task in plan.tasks] == placed
    by_id = {t.track: t for t in tracks}
    for shard in plan.shards:
        assert all(plan.splits[t] == shard.split for t in shard.tracks)
        seconds = sum(by_id[t].seconds for t in shard.tracks)
        assert len(shard.tracks) == 1 or seconds <= hours * 3600


def test_the_plan_does_not_depend_on_the_order_of_discovery():
    items = [scanned(i) for i in range(40)]
    assert plan_of(items).shards == plan_of(items[::-1]).shards


def test_the_validation_share_is_about_what_was_asked_for():
    keys = [f"{i:024x}" for i in range(20000)]
    share = sum(split_of(k, 0.1) == "val" for k in keys) / len(keys)
    assert abs(share - 0.1) < 0.01
    assert {split_of(k, 0.0) for k in keys} == {"train"}
    assert {split_of(k, 1.0) for k in keys} == {"val"}


def test_folders_and_artists_are_not_torn_apart():
    by_folder = plan_of(
        [scanned(i, folder=f"album{i // 5}") for i in range(100)],
        split_by="folder", val_fraction=0.5,
    )  # fmt: skip
    groups = {}
    for track, item in by_folder.sources.items():
        groups.setdefault(item.found.folder, set()).add(by_folder.splits[track])
    assert all(len(splits) == 1 for splits in groups.values())
    assert len(set.union(*groups.values())) == 2
    same = plan_of([scanned(1, artist="Björk"), scanned(2, folder="x", artist="BJÖRK")],
                   split_by="artist", val_fraction=0.5)  # fmt: skip
    assert len(set(same.splits.values())) == 1


def test_duplicates_and_other_files_get_their_rows():
    first, other = scanned(1), scanned(2)
    copy = Scanned(Found("/music/z.flac", ".", 1001, 1), "audio", "FLAC", first.track, 60.0)
    picture = Scanned(Found("/music/cover.jpg", ".", 9, 1), "other", "a JPEG picture")
    locked = Scanned(Found("/music/x.wav", ".", 9, 1, "denied"), "claims-audio", "denied")
    plan = plan_of([first, other, copy, picture, locked])
    rows = {row["source"]: row for row in plan.ledger}
    assert rows["/music/z.flac"]["reason"] == "duplicate of /music/./00001.flac"
    assert rows["/music/cover.jpg"]["status"] == "skipped"
    assert rows["/music/x.wav"]["status"] == "failed"
    assert len(plan.tasks) + len(plan.ledger) == 5


def test_finished_tracks_are_not_planned_and_new_shards_are_numbered_after_old_ones():
    items = [scanned(i) for i in range(10)]
    done = {items[0].track: {"status": "ok", "track": items[0].track, "split": "train"}}
    plan = plan_of(items, done=done, first={"train": 7, "val": 2}, val_fraction=0.0)
    assert items[0].track not in plan.splits
    assert [s.name for s in plan.shards] == ["train/000007.tar"]


def test_limit_takes_the_first_tracks_and_says_so_of_the_rest():
    items = [scanned(i) for i in range(10)]
    plan = plan_of(items, limit=3)
    assert len(plan.tasks) == 3
    assert sum("--limit" in str(row["reason"]) for row in plan.ledger) == 7
    done = {item.track: {"status": "ok", "track": item.track} for item in items[5:9]}
    plan = plan_of(items, limit=5, done=done)
    assert len(plan.tasks) == 1
    assert len(plan.ledger) + len(plan.tasks) == 10
