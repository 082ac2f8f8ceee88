"""Single samples can be checked: by whoever reads a stretch of a shard, and by ``verify``."""

from __future__ import annotations

import hashlib

import pytest
from datasets import SPACES, write_dataset

from shards.layout import SAMPLES
from shards.manifest import read_manifest
from shards.storage import LocalStore
from shards.tables import SAMPLES_SCHEMA, read_table
from shards.tar import sample_digest
from shards.verify import verify


@pytest.fixture
def dataset(tmp_path):
    write_dataset(tmp_path)
    return LocalStore(tmp_path)


def test_a_digest_is_of_the_samples_bytes_in_the_shard(dataset):
    rows = read_table(dataset, SAMPLES, SAMPLES_SCHEMA)
    for row in rows:
        run = dataset.read(row["shard"], row["offset"], row["bytes"])
        assert row["digest"] == hashlib.sha256(run).digest()[:16]
        assert sample_digest(memoryview(run)) == row["digest"]
    assert len({row["digest"] for row in rows}) == len(rows)


def test_a_flipped_byte_is_found_in_its_sample(dataset):
    rows = read_table(dataset, SAMPLES, SAMPLES_SCHEMA)
    row = next(r for r in rows if r["shard"] == "train/000001.tar" and r["offset"] > 0)
    data = bytearray(dataset.read(row["shard"]))
    last = row["offset"] + row["bytes"] - 1  # padding: nothing but a hash can tell
    data[last] ^= 1
    dataset.write(row["shard"], bytes(data))
    found = [p for checked in verify(dataset, SPACES) for p in checked.problems]
    named = [p for p in found if row["key"] in p.where]
    assert [p.where for p in named] == [f"{row['shard']} {row['key']}"]
    run = bytes(data[row["offset"] : last + 1])
    assert row["digest"].hex() in named[0].what
    assert hashlib.sha256(run).hexdigest()[:32] in named[0].what
    entry = read_manifest(dataset).shards[1]
    others = [p for p in found if p not in named]
    assert [p.where for p in others if entry.sha256[:12] in p.what] == [entry.name]
    assert not [p for p in others if "digest" in p.what]
