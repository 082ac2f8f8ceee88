"""Whole builds from and into object storage: the same bytes, whatever the network does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import mutagen
import pytest
from buckets import SECRET
from helpers import problems, shard_bytes

from pipeline.engine_of import Engines, open_engines
from pipeline.engines.local import LocalEngine
from pipeline.execution import Execution
from pipeline.merge import Merge
from pipeline.scan import find_files
from shards import lease, retry, schemes
from shards.errors import ConfigError, EnvironmentFailure, MissingExtraError
from shards.layout import LEDGER
from shards.manifest import read_manifest
from shards.storage import open_store
from shards.tables import LEDGER_SCHEMA, read_table

# Every stream costs statistics, small files that each cost requests to a slow server.
OPTIONS = {"val_fraction": 0.3, "shard_hours": 0.003, "lr": ["filters:2000-16000"]}
ONE_SHARD = {**OPTIONS, "val_fraction": 0.0}


def shards_of(url):
    store = open_store(url)
    return {n: store.read(n) for n in store.files() if n.endswith(".tar") and "/." not in f"/{n}"}


@pytest.fixture(scope="module")
def songs(album, tmp_path_factory):
    """Few, for the same reason."""
    root = tmp_path_factory.mktemp("songs")
    for name in ("a/one.wav", "a/two.flac", "b/four.mp3", "c/eight.flac"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(album / name, root / name)
    return root


@pytest.fixture(scope="module")
def reference(songs, build, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "out"
    build(songs, out, **OPTIONS)
    return shard_bytes(out)


@pytest.fixture
def music(songs, bucket):
    open_store(bucket).put_tree(songs, "my music")
    return f"{bucket}/my music"


@pytest.fixture
def impatient(monkeypatch):
    """Many attempts of ours with short pauses, a single one of the library's."""
    monkeypatch.setattr(retry, "BACKOFF", retry.Backoff(0.001, 0.01))
    real = schemes._options

    def options(kind):
        found = real(kind)
        if kind == "s3":
            found["config_kwargs"]["retries"]["total_max_attempts"] = 1
        return found

    monkeypatch.setattr(schemes, "_options", options)


def litter():
    root = Path(tempfile.gettempdir(), f"jatsr-{os.getuid()}")
    return list(root.iterdir()) if root.exists() else []


def test_from_bucket_to_bucket_equals_from_disk_to_disk(
    music, bucket, build, reference, songs, object_storage
):
    before = litter()
    out = f"{bucket}/sets/one"
    build(music, out, workers=2, **OPTIONS)
    asked = [r for r in object_storage.proxy.requests if r.method == "GET" and "/parts/" in r.path]
    assert len([r for r in asked if ".json" in r.path]) == 4  # no search for what is not there
    assert shards_of(out) == reference
    assert not problems(out)
    assert not build(music, out, workers=2, **OPTIONS).changed
    rows = read_table(out, LEDGER, LEDGER_SCHEMA)
    assert {r["source"].removeprefix(music) for r in rows} == {
        f"/{p.relative_to(songs).as_posix()}" for p in songs.rglob("*") if p.is_file()
    }
    assert not [name for name in open_store(out).files() if ".jatsr" in name]
    assert litter() == before


def test_memory_is_a_store_like_any_other(songs, build, reference):
    out = f"memory://{uuid.uuid4().hex}"
    build(songs, out, **OPTIONS)
    assert shards_of(out) == reference
    assert not problems(out)


@pytest.mark.usefixtures("impatient")
def test_a_bad_network_changes_nothing(music, bucket, build, reference, object_storage):
    """Every seventh request fails, in turns: errors, throttling, resets, cut and short bodies."""
    proxy = object_storage.proxy
    faults = [
        proxy.fail("status", status=500, every=7, times=10**6),
        proxy.fail("status", status=503, every=11, times=10**6),
        proxy.fail("reset", every=13, times=10**6),
        proxy.fail("cut", method="GET", every=9, times=10**6),
        proxy.fail("short", method="GET", every=8, times=10**6),
        proxy.fail("lost", method="PUT", every=6, times=10**6),
    ]
    out = f"{bucket}/out"
    build(music, out, **OPTIONS)
    proxy.reset()
    assert all(fault.hits for fault in faults)
    assert shards_of(out) == reference
    assert not problems(out)


CHILD = """
import sys
from pipeline.build import Build
from pipeline.engine_of import open_engines
from pipeline.options import make_config
sys.path.insert(0, {tests!r})
from helpers import QuietUi
config = make_config({options})
with open_engines(config) as engines:
    Build([{source!r}], {dest!r}, config, engines, QuietUi()).run()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "containing", "skip", "workers"),
    [("PUT", "/parts/", 4, 2), ("PUT", "samples.parquet", 0, 0), ("DELETE", "", 0, 0)],
)
def test_killed_on_one_machine_and_finished_on_another(
    music, bucket, build, reference, object_storage, method, containing, skip, workers
):
    """kill -9 in the middle of a request; what is in the bucket is all that is left."""
    out = f"{bucket}/out"
    fault = object_storage.proxy.fail("hold", method=method, containing=containing, skip=skip)
    places = {"tests": str(Path(__file__).parents[1]), "source": music, "dest": out}
    options = {"workers": workers, "captions": "none", "excerpt_seconds": 2.0, **OPTIONS}
    code = CHILD.format(**places, options=options)
    child = subprocess.Popen([sys.executable, "-c", code])
    assert fault.reached.wait(60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    object_storage.proxy.reset()
    outcome = build(music, out, **OPTIONS)
    assert shards_of(out) == reference
    assert not problems(out)
    assert not [name for name in open_store(out).files() if ".jatsr" in name]
    if containing == "samples.parquet":
        assert outcome.tally.resumed == 4


def test_two_builds_into_one_bucket_are_refused(music, bucket, build, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 4.0)
    out = f"{bucket}/out"
    with open_store(out).lock(".jatsr/lock"), pytest.raises(ConfigError, match="another process"):
        build(music, out, **OPTIONS)


@pytest.mark.parametrize("channels", ["mono", "stereo"])
def test_a_build_that_was_cut_off_leaves_the_dataset_of_its_successor_alone(
    songs, bucket, build, monkeypatch, channels
):
    """A machine that sleeps renews nothing; somebody else builds; then it wakes up."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)
    out, real = f"{bucket}/out", Execution.assemble

    def overtaken(self, plan, results):
        shards = real(self, plan, results)
        with monkeypatch.context() as patch:
            patch.setattr(Execution, "assemble", real)
            build(songs / "b", out, channels=channels, rebuild=True, **ONE_SHARD)
        return shards

    monkeypatch.setattr(lease._Lease, "keep", lambda self, stop: stop.wait())
    monkeypatch.setattr(Execution, "assemble", overtaken)
    with pytest.raises(EnvironmentFailure, match="another process took over"):
        build(songs / "a", out, **ONE_SHARD)
    assert not problems(out)
    assert read_manifest(out).config["channels"] == channels


def test_a_source_inside_the_destinations_bucket_is_not_built_again(music, bucket, build):
    build(bucket, f"{bucket}/out", **OPTIONS)
    assert not build(bucket, f"{bucket}/out", **OPTIONS).changed


def test_single_objects_and_sidecars(album, bucket, build, tmp_path):
    store = open_store(bucket)
    store.put(album / "a" / "two.flac", "x/song.flac")
    store.write("x/song.txt", b"A made-up piece.")
    build(f"{bucket}/x/song.flac", tmp_path / "out", captions="sidecar", val_fraction=0.0)
    from jatsr_data import open_samples

    assert open_samples(tmp_path / "out")[0].caption == "A made-up piece."


@pytest.mark.parametrize("captions", ["sidecar", "none"])
def test_a_web_address_leaves_no_secret_and_needs_no_sidecar(
    album, bucket, object_storage, build, tmp_path, captions
):
    """Servers, and buckets that may not be listed, refuse what they do not have."""
    open_store(bucket).put(album / "a" / "two.flac", "two.flac")
    denied = object_storage.proxy.fail("status", containing="two.txt", status=403, times=100)
    place = f"{object_storage.proxy.url.removeprefix('http://')}/{bucket.removeprefix('s3://')}"
    out = tmp_path / "out"
    build(f"http://me:{SECRET}@{place}/two.flac?key=a/{SECRET}", out, captions=captions)
    assert bool(denied.hits) == (captions == "sidecar")
    (row,) = read_table(out, LEDGER, LEDGER_SCHEMA)
    assert (row["status"], row["source"]) == ("ok", f"http://{place}/two.flac")
    assert not [p for p in out.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    open_store(bucket).write("junk.flac", b"junk")
    with pytest.raises(ConfigError, match="expected audio") as caught:
        build(f"http://me:{SECRET}@{place}/junk.flac?key={SECRET}", tmp_path / "other")
    assert SECRET not in str(caught.value)


def test_what_was_left_out_is_looked_into_when_it_is_built(album, bucket, build, tmp_path):
    """Its artist decides the split, its header the shard: neither is in the ledger."""
    music = tmp_path / "music"
    music.mkdir()
    for name in ("one.wav", "two.flac", "three.ogg"):
        copy = shutil.copy(album / "a" / name, music)
        if not name.endswith(".wav"):
            file = mutagen.File(copy)
            file["artist"] = "Somebody"
            file.save()
    open_store(bucket).put_tree(music, "music")
    options = {**OPTIONS, "split_by": "artist", "val_fraction": 0.5}
    build(f"{bucket}/music", f"{bucket}/out", **options, limit=2)
    outcome = build(f"{bucket}/music", f"{bucket}/out", **options)
    (task,) = outcome.plan.tasks
    item = outcome.plan.sources[task.track]
    here = build(music, tmp_path / "out", **options).plan
    assert (item.seconds, item.tags) == (here.sources[task.track].seconds, item.tags)
    assert outcome.plan.splits[task.track] == here.splits[task.track]
    assert item.tags.artist == here.sources[task.track].tags.artist


def test_folders_of_odd_names_are_told_apart(bucket):
    store = open_store(bucket)
    for name in ("mix#1/a.wav", "mix#2/a.wav", "what?/a.wav", "x//a.wav"):
        store.write(name, b"RIFF")
    sources = [f"{bucket}/{name}" for name in ("mix#1", "mix#2", "what?/a.wav", "x")]
    files = find_files([bucket.replace("s3:", "S3:"), *sources], "/nowhere")
    assert len(files) == 4
    folders = [found.folder for source in sources for found in find_files([source], "/nowhere")]
    assert folders[:3] == ["mix#1", "mix#2", "what?"]
    with pytest.raises(ConfigError, match="found none"):
        find_files([bucket.replace("s3:", "S3:")], bucket)


def test_a_clip_that_cannot_be_had_costs_its_track_the_caption_alone(bucket, object_storage, album):
    """The build meets the same object and says what is wrong with it."""
    from pipeline.captioning import ClipSession, ClipTask

    store = open_store(bucket)
    for name in ("one.flac", "denied.flac", "d//one.flac"):
        store.put(album / "a" / "two.flac", name)
    object_storage.proxy.fail("status", containing="denied", status=403, times=100)
    before = litter()
    names = ("denied.flac", "gone.flac", "one.flac", "d//one.flac")
    tasks = [ClipTask(name, f"{bucket}/{name}") for name in names]
    found = {result.key: result.clip for result in ClipSession().open(print)(iter(tasks))}
    assert [name for name in names if found[name] is None] == ["denied.flac", "gone.flac"]
    assert litter() == before


def test_what_is_not_audio_is_not_downloaded(bucket, object_storage, album):
    store = open_store(bucket)
    store.write("cover.jpg", b"\xff\xd8\xff\xe0" + bytes(3_000_000))
    store.put(album / "a" / "two.flac", "two.flac")
    from pipeline.identify import identify

    files = find_files([bucket], "/nowhere")
    object_storage.proxy.requests.clear()
    kinds = [identify(found, {}).kind for found in files]
    assert kinds == ["other", "audio"]
    covers = [r for r in object_storage.proxy.requests if r.method == "GET" and "cover" in r.path]
    assert covers
    assert all(r.range and int(r.range.split("-")[1]) < 100_000 for r in covers)


def test_an_object_that_vanishes_or_changes_is_a_failed_row(music, bucket, album):
    store = open_store(music)

    class Meddling(LocalEngine):
        def run(self, session, tasks):
            if type(session).__name__ == "TrackSession":
                store.remove(["a/one.wav"])
                store.put(album / "c" / "eight.flac", "a/two.flac")
            return super().run(session, tasks)

    from helpers import QuietUi

    from pipeline.build import Build
    from pipeline.options import make_config

    config = make_config({"captions": "none", "excerpt_seconds": 2.0, "max_failed": 0.5, **OPTIONS})
    with open_engines(config) as engines:
        engines = Engines(engines.codec, Meddling(1), engines.here, 1)
        Build([music], f"{bucket}/out", config, engines, QuietUi()).run()
    rows = read_table(f"{bucket}/out", LEDGER, LEDGER_SCHEMA)
    failed = {r["source"].rsplit("/", 1)[1]: r for r in rows if r["status"] == "failed"}
    assert set(failed) == {"one.wav", "two.flac"}
    assert all(row["stage"] == "fetch" and row["hint"] for row in failed.values())


@pytest.mark.usefixtures("impatient")
def test_storage_that_stays_away_stops_the_build_and_blames_no_track(
    music, bucket, build, object_storage, reference
):
    out = f"{bucket}/out"
    object_storage.proxy.fail("status", method="PUT", containing="/parts/", skip=4, times=10**6)
    with pytest.raises(EnvironmentFailure, match="same command"):
        build(music, out, **OPTIONS)
    object_storage.proxy.reset()
    outcome = build(music, out, **OPTIONS)
    assert outcome.tally.resumed == 2
    assert shards_of(out) == reference


@pytest.mark.slow
def test_merging_buckets(music, bucket, build, tmp_path):
    from helpers import QuietUi

    build(f"{music}/a", f"{bucket}/A", **OPTIONS)
    build([f"{music}/a", f"{music}/b"], tmp_path / "B", **OPTIONS)
    merged = Merge([f"{bucket}/A", tmp_path / "B"], f"{bucket}/C", None, QuietUi()).run()
    assert merged.duplicates == 2
    assert not problems(f"{bucket}/C")
    Merge([f"{bucket}/A", tmp_path / "B"], tmp_path / "C", None, QuietUi()).run()
    assert shards_of(f"{bucket}/C") == shard_bytes(tmp_path / "C")


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_extra_is_named(album, build, monkeypatch, scheme, package):
    monkeypatch.setitem(sys.modules, package, None)
    extra = {"s3": "s3", "gs": "gcs"}[scheme]
    for source, dest in ((album, f"{scheme}://b/out"), (f"{scheme}://b/music", "/nowhere")):
        with pytest.raises(MissingExtraError, match=rf"jatsr\[{extra}\]"):
            build(source, dest)


def test_web_servers_are_read_only(album, build):
    with pytest.raises(ConfigError, match="cannot be written to"):
        build(album, "https://example.com/out")
