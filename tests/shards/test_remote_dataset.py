"""Readers of datasets: the same from a folder and from a bucket, and no byte more than needed."""

from __future__ import annotations

import json
import shutil
import uuid

import numpy as np
import pytest
from click.testing import CliRunner
from datasets import FRAMES, SPACES, STREAMS, WITH_PROJECTIONS, write_dataset

from jatsr_data import open_samples
from pipeline.commands.info import info
from pipeline.commands.verify import verify as verify_command
from shards.errors import FormatError
from shards.layout import LEDGER, MANIFEST, SAMPLES, SILENCE, STATISTICS
from shards.manifest import read_manifest
from shards.silence import read_silence
from shards.statistics import read_shard_statistics, read_totals
from shards.storage import LocalStore, Store, open_store
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table
from shards.verify import verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("dataset") / "out"
    write_dataset(path)
    return path


@pytest.fixture
def remote(folder, bucket, object_storage) -> Store:
    """The same dataset in a bucket."""
    store = open_store(bucket).child("sets/demo")
    store.put_tree(folder, "")
    object_storage.proxy.requests.clear()
    return store


def problems(dataset, using=SPACES):
    return [p for checked in verify(dataset, using) for p in checked.problems]


def test_what_is_read_is_the_same(folder, remote):
    assert read_manifest(remote) == read_manifest(folder) == read_manifest(str(folder))
    for name, schema in ((SAMPLES, SAMPLES_SCHEMA), (LEDGER, LEDGER_SCHEMA)):
        assert read_table(remote, name, schema) == read_table(folder, name, schema)
        some = read_table(remote.url, name, schema, ["split"])
        assert some[0] == {"split": "train"}
    there, here = read_shard_statistics(remote), read_shard_statistics(folder)
    assert there.keys() == here.keys()
    for name, streams in here["train"].items():
        assert {s: m.n for s, m in streams.items()} == dict.fromkeys(STREAMS, 3 * FRAMES)
        assert all(there["train"][name][s].same_as(m, relative=0) for s, m in streams.items())
    assert remote.sha256(STATISTICS) == read_manifest(folder).files[STATISTICS]
    frame = read_silence(remote, read_manifest(remote))
    np.testing.assert_array_equal(frame, read_silence(folder, read_manifest(folder)))


def test_totals_come_without_what_they_are_made_of(folder, remote, object_storage):
    totals, expected = read_totals(remote, "train"), read_totals(folder, "train")
    assert totals.keys() == expected.keys() == set(STREAMS)
    assert all(totals[stream].same_as(expected[stream], relative=0) for stream in STREAMS)
    assert expected["hr"].n == 6 * FRAMES
    read = [r.path for r in object_storage.proxy.requests if "list-type" not in r.path]
    assert read
    assert not [path for path in read if "/shards/" in path]
    assert read_totals(remote, "val") == read_totals(folder, "val") == {}


def test_totals_come_from_a_web_server(bucket, object_storage, tmp_path):
    """Which cannot be listed; with the projections of a codec that has them."""
    write_dataset(tmp_path, spaces=WITH_PROJECTIONS)
    open_store(bucket).child("set").put_tree(tmp_path, "")
    object_storage.proxy.requests.clear()
    server = object_storage.proxy.url.replace("://", "://me:hunter2@")
    web = f"{server}/{bucket.removeprefix('s3://')}/set"
    there, here = read_totals(web, "train"), read_totals(tmp_path, "train")
    assert there.keys() == here.keys() == {"hr", "lr0", "hr.projected", "lr0.projected"}
    assert all(there[name].same_as(here[name], relative=0) for name in here)
    assert read_totals(web, "val") == {}
    paths = [request.path for request in object_storage.proxy.requests]
    assert not [path for path in paths if "/shards/" in path or "list-type" in path]
    open_store(bucket).remove([f"set/{STATISTICS}/train/hr.projected/min/c/0"])
    with pytest.raises(FormatError, match="expected the statistics"):
        read_totals(web, "train")


def test_samples_are_fetched_one_by_one(folder, remote, object_storage):
    here, there = open_samples(folder), open_samples(remote.url)
    assert len(here) == len(there) == 6
    object_storage.proxy.requests.clear()
    sample = there[4]
    requests = object_storage.proxy.requests
    row = there.rows[4]
    last = row["offset"] + row["bytes"] - 1
    assert [(r.method, r.range) for r in requests] == [("GET", f"bytes={row['offset']}-{last}")]
    assert sample.key == here[4].key
    assert sample.metadata == here[4].metadata
    for stream in STREAMS:
        np.testing.assert_array_equal(sample.streams[stream], here[4].streams[stream])
    assert sample.rolloff("lr0") == here[4].rolloff("lr0")


def test_a_whole_dataset_is_verified_with_one_download(remote, object_storage):
    assert problems(remote) == []
    shards = [r for r in object_storage.proxy.requests if r.path.endswith("/000000.tar")]
    assert [r.method for r in shards].count("GET") == 1


DAMAGE = {
    "shard changed": ("train/000000.tar", lambda data: data[:3000] + b"x" + data[3001:]),
    "shard cut": ("train/000001.tar", lambda data: data[:-2000]),
    "shard gone": ("train/000001.tar", None),
    "unknown shard": ("val/000007.tar", lambda _: b""),
    "table changed": (SAMPLES, lambda data: data + b" "),
    "table gone": (LEDGER, None),
    "table damaged": (LEDGER, lambda _: b"PAR1"),
    "statistics changed": (f"{STATISTICS}/zarr.json", lambda data: data + b"\n"),
    "statistics damaged": (f"{STATISTICS}/train/hr/mean/c/0", lambda _: b"?"),
    "statistics gone": (f"{STATISTICS}/zarr.json", None),
    "silence changed": (SILENCE, lambda data: data[:-1] + b"x"),
    "silence gone": (SILENCE, None),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_alike_near_and_far(damage, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    name, change = DAMAGE[damage]
    here, there = LocalStore(tmp_path / "out"), open_store(f"memory://{uuid.uuid4().hex}")
    if change is None:
        here.remove([name])
    else:
        here.write(name, change(here.read(name) if here.stat(name) else b""))
    there.put_tree(tmp_path / "out", "")
    found = problems(here)
    assert any(name.split("/zarr.json")[0].startswith(p.where.split(" ")[0]) for p in found)
    assert [p.where for p in problems(there)] == [p.where for p in found]


def test_no_dataset_there(bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (bucket, f"{bucket}/x", tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(FormatError, match=r"expected a dataset, found no dataset\.json"):
            read_manifest(place)
        with pytest.raises(FormatError, match=r"expected (the statistics of )?a dataset, found n"):
            read_totals(place, "train")
        with pytest.raises(FormatError, match="expected a parquet table"):
            read_table(place, SAMPLES, SAMPLES_SCHEMA)
    open_store(bucket).write(MANIFEST, b"{}")
    with pytest.raises(FormatError, match=f"{bucket}/dataset.json: expected the manifest"):
        read_manifest(bucket)


def test_a_sample_that_is_cut_off_is_said(remote):
    shard = remote.read("train/000001.tar")
    remote.write("train/000001.tar", shard[:-5000])
    with pytest.raises(FormatError, match=r"train/000001\.tar: expected sample"):
        open_samples(remote)[5]


def test_commands_take_addresses(remote, folder):
    for place in (remote.url, str(folder)):
        shown = CliRunner().invoke(info, [place, "--json"], catch_exceptions=False)
        facts = json.loads(shown.output)
        assert facts["dataset"] == place
        assert facts["splits"]["train"]["samples"] == 6
        text = CliRunner().invoke(info, [place], catch_exceptions=False).output
        assert text.startswith(place)
        done = CliRunner().invoke(
            verify_command, [place, "--no-statistics"], catch_exceptions=False
        )
        assert done.exit_code == 0
        assert f"{place}: 2 shards, 6 samples verified" in done.output
