"""Merged datasets: nothing lost, nothing double, statistics as if computed at once."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial

import pytest
from around import Around
from click.testing import CliRunner
from helpers import QuietUi, problems, sample_bytes, shard_bytes, write_music

from cli import jatsr
from jatsr_model.codecs import CodecConfig, load, resolve
from pipeline import merge as merge_module
from pipeline.merge import Merge
from shards.errors import ConfigError, FormatError
from shards.layout import LEDGER, SAMPLES, SILENCE
from shards.manifest import read_manifest
from shards.silence import read_silence
from shards.statistics import Moments, merge_all, read_totals
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table
from shards.tar import load_npy, read_samples

OPTIONS = {"val_fraction": 0.4, "shard_hours": 0.002, "lr": ["filters:2000-16000"]}


def merge(*sources, to):
    return Merge(sources, to, None, QuietUi()).run()


@pytest.fixture(scope="module")
def halves(album, build, tmp_path_factory):
    """Two datasets that share three tracks, one of which fails in the first."""
    root = tmp_path_factory.mktemp("halves")
    for name, folders in (("one", "ab"), ("two", "bc")):
        for folder in folders:
            shutil.copytree(album / folder, root / name / folder)
    (root / "one" / "noise.mp3").write_bytes(b"no music" * 100)
    (root / "two" / "text.txt").write_text("not audio")
    write_music(root / "two" / "d" / "late.wav", 1.5, 77)
    build(root / "one", root / "A", max_failed=0.5, **OPTIONS)
    build(root / "two", root / "B", **OPTIONS)
    return root / "A", root / "B"


@pytest.fixture(scope="module")
def whole(halves, tmp_path_factory):
    """The halves merged, and what was said of it; only read by tests."""
    out = tmp_path_factory.mktemp("whole") / "C"
    return out, merge(*halves, to=out)


def test_all_samples_once_and_statistics_of_them_all(halves, whole):
    out, merged = whole
    one, two, both = (sample_bytes(path) for path in (*halves, out))
    assert set(one) & set(two)
    assert both == {**two, **one}
    assert merged.duplicates == len({key.split("_")[0] for key in set(one) & set(two)})
    assert not problems(out)
    codec = load(resolve(CodecConfig(name="mdct")))
    for split in ("train", "val"):
        parts = [
            Moments.of(codec.latents_array(load_npy(members["hr.npy"])))
            for path in sorted((out / split).glob("*.tar"))
            for _, _, _, members in read_samples(path)
        ]
        total = merge_all(parts, codec.latent_dim)
        assert read_totals(out, split)["hr"].same_as(total)


def test_the_ledger_has_a_row_per_input_and_balances(halves, whole):
    out, _ = whole
    rows = read_table(out, LEDGER, LEDGER_SCHEMA)
    assert len(rows) == sum(len(read_table(half, LEDGER, LEDGER_SCHEMA)) for half in halves)
    ok = [row["track"] for row in rows if row["status"] == "ok"]
    assert len(ok) == len(set(ok))
    doubled = [row for row in rows if (row["reason"] or "").startswith("duplicate of")]
    assert {row["track"] for row in doubled} <= set(ok)
    samples = read_table(out, SAMPLES, SAMPLES_SCHEMA)
    sources = {row["track"]: row["source"] for row in rows if row["status"] == "ok"}
    assert all(row["source"] == sources[row["track"]] for row in samples)


def test_shards_without_duplicates_are_taken_over_as_they_are(halves, whole):
    out, _ = whole
    taken = set(shard_bytes(out).values())
    assert set(shard_bytes(halves[0]).values()) <= taken


def test_digests_and_silence_are_taken_over(halves, whole):
    out, _ = whole
    rows = read_table(out, SAMPLES, SAMPLES_SCHEMA)
    for row in rows:
        run = (out / row["shard"]).read_bytes()[row["offset"] :][: row["bytes"]]
        assert row["digest"] == hashlib.sha256(run).digest()[:16]
    assert len({row["digest"] for row in rows}) == len(rows)
    silence = (out / SILENCE).read_bytes()
    assert silence == (halves[0] / SILENCE).read_bytes() == (halves[1] / SILENCE).read_bytes()
    assert read_silence(out, read_manifest(out)).shape == (512, 1)


def test_merging_a_dataset_with_itself_gives_it_back(halves, tmp_path):
    merged = merge(halves[0], halves[0], to=tmp_path / "C")
    assert shard_bytes(tmp_path / "C") == shard_bytes(halves[0])
    manifest = read_manifest(halves[0])
    assert merged.manifest.splits == manifest.splits


def test_a_build_goes_on_where_a_merge_ended(halves, build, tmp_path):
    merge(*halves, to=tmp_path / "C")
    before = shard_bytes(tmp_path / "C")
    sources = [half.parent / name for half, name in zip(halves, ("one", "two"), strict=True)]
    outcome = build(sources, tmp_path / "C", max_failed=0.5, **OPTIONS)
    assert not outcome.plan.tasks
    assert shard_bytes(tmp_path / "C") == before
    assert not problems(tmp_path / "C")


def test_a_failure_is_no_reason_to_lose_what_another_dataset_has(build, tmp_path, monkeypatch):
    """A track that failed in one dataset and is ok in the other: one row counts."""
    music = tmp_path / "music"
    write_music(music / "a.wav", 1.0, 1)
    write_music(music / "b.wav", 1.0, 2)
    build(music, tmp_path / "B", **OPTIONS)
    with monkeypatch.context() as patch:
        from pipeline.stages import source

        real = source.open_audio
        patch.setattr(
            source, "open_audio", lambda p: real(p if p.name == "a.wav" else p / "missing")
        )
        build(music, tmp_path / "A", max_failed=0.9, **OPTIONS)
    assert len(sample_bytes(tmp_path / "A")) == 1
    merge(tmp_path / "A", tmp_path / "B", to=tmp_path / "C")
    assert sample_bytes(tmp_path / "C") == sample_bytes(tmp_path / "B")
    assert not build(music, tmp_path / "C", **OPTIONS).plan.tasks
    assert not problems(tmp_path / "C")


def test_other_options_are_refused_and_named(halves, build, tmp_path):
    write_music(tmp_path / "in" / "a.wav", 1.0)
    build(tmp_path / "in", tmp_path / "stereo", channels="stereo", **OPTIONS)
    with pytest.raises(ConfigError, match="channels") as caught:
        merge(halves[0], tmp_path / "stereo", to=tmp_path / "C")
    assert "stereo" in str(caught.value)
    assert not (tmp_path / "C").exists()


def test_a_damaged_shard_is_named_and_nothing_is_published(halves, tmp_path):
    shutil.copytree(halves[1], tmp_path / "B")
    for shard in (tmp_path / "B").glob("*/*.tar"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(bytes(data))
    with pytest.raises(FormatError, match=r"B/.*\.tar: expected sha256"):
        merge(halves[0], tmp_path / "B", to=tmp_path / "C")
    assert not (tmp_path / "C" / "dataset.json").exists()


def test_killed_after_the_manifest_was_written(halves, whole, tmp_path, monkeypatch):
    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(merge_module.Staging, "close", killed)
        with pytest.raises(KeyboardInterrupt):
            merge(*halves, to=tmp_path / "C")
    assert (tmp_path / "C" / "dataset.json").exists()
    merge(*halves, to=tmp_path / "C")
    assert shard_bytes(tmp_path / "C") == shard_bytes(whole[0])
    assert not (tmp_path / "C" / ".jatsr").exists()
    assert not problems(tmp_path / "C")


@pytest.mark.parametrize("passes", [0, 2])
def test_interrupted_and_run_again_equals_at_once(halves, whole, tmp_path, monkeypatch, passes):
    real, calls = merge_module._checked, []

    def failing(copy):
        calls.append(copy)
        if len(calls) > passes:
            raise KeyboardInterrupt
        return real(copy)

    with monkeypatch.context() as patch:
        patch.setattr(merge_module, "_checked", failing)
        with pytest.raises(KeyboardInterrupt):
            merge(*halves, to=tmp_path / "C")
    assert not (tmp_path / "C" / "dataset.json").exists()
    merge(*halves, to=tmp_path / "C")
    assert shard_bytes(tmp_path / "C") == shard_bytes(whole[0])
    assert not (tmp_path / "C" / ".jatsr").exists()
    with pytest.raises(ConfigError, match="found a dataset"):
        merge(*halves, to=tmp_path / "C")


def test_an_unfinished_build_is_not_merged_over(halves, album, build, tmp_path):
    def stop(count):
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(album, tmp_path / "C", around=partial(Around, after=stop), **OPTIONS)
    staged = sorted((tmp_path / "C" / ".jatsr").glob("*/parts/*/*"))
    assert staged
    with pytest.raises(ConfigError, match="found an unfinished build"):
        merge(*halves, to=tmp_path / "C")
    assert sorted((tmp_path / "C" / ".jatsr").glob("*/parts/*/*")) == staged


def test_the_command(halves, tmp_path):
    arguments = ["merge", *map(str, halves), "-o", str(tmp_path / "C"), "--json"]
    done = CliRunner().invoke(jatsr, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["samples"] == len(sample_bytes(tmp_path / "C"))
    assert facts["duplicates"] == 3
