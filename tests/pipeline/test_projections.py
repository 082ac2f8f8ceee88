"""Statistics of projections, where a codec has them: announced, kept, derived again."""

from __future__ import annotations

import shutil

import pytest
from datasets import WITH_PROJECTIONS, write_dataset
from helpers import QuietUi

from jatsr_model.codecs import CodecConfig, resolve
from pipeline import merge
from pipeline.fingerprint import byte_config
from pipeline.options import make_config
from pipeline.publish import shard_statistics
from shards.layout import SILENCE, STATISTICS
from shards.silence import read_silence
from shards.statistics import read_shard_statistics, read_totals
from shards.storage import LocalStore
from shards.verify import verify

GROUPS = {"hr", "lr0", "hr.projected", "lr0.projected"}


@pytest.mark.parametrize(("codec", "channels"), [("mdct", None), ("dac-44khz-untrained", 72)])
def test_the_manifest_tells_which_codec_has_them(codec, channels):
    spec = resolve(CodecConfig(name=codec, device="cpu", compile=False))
    assert byte_config(make_config({}), spec, None)["codec"].get("projected_dim") == channels


def test_statistics_that_are_lost_are_derived_in_every_space(tmp_path):
    manifest, store = write_dataset(tmp_path, spaces=WITH_PROJECTIONS), LocalStore(tmp_path)
    published = read_shard_statistics(store)
    whole = shard_statistics(store, manifest, lambda: pytest.fail("loaded the codec"))
    shutil.rmtree(tmp_path / STATISTICS)
    derived = shard_statistics(store, manifest, lambda: WITH_PROJECTIONS)
    for name, streams in published["train"].items():
        for table in (whole, derived):
            assert table["train"][name].keys() == streams.keys() == GROUPS
            assert all(table["train"][name][s].same_as(m, relative=0) for s, m in streams.items())


def test_verify_misses_projections_that_are_not_there(tmp_path):
    write_dataset(tmp_path)
    found = [p.what for checked in verify(tmp_path, WITH_PROJECTIONS) for p in checked.problems]
    assert any("train/000000.tar hr.projected" in what for what in found)


def test_a_merge_keeps_them_and_the_silence_without_the_codec(tmp_path, monkeypatch):
    manifest = write_dataset(tmp_path / "A", spaces=WITH_PROJECTIONS)
    monkeypatch.setattr(merge, "load", lambda _: pytest.fail("loaded the codec"))
    one = tmp_path / "A"
    merged = merge.Merge([one, one], tmp_path / "C", None, QuietUi()).run().manifest
    problems = [c.problems for c in verify(tmp_path / "C", WITH_PROJECTIONS)]
    assert not any(problems)
    before, after = (read_totals(path, "train") for path in (one, tmp_path / "C"))
    assert before.keys() == after.keys() == GROUPS
    assert all(before[name].same_as(after[name], relative=0) for name in GROUPS)
    assert merged.files[SILENCE] == manifest.files[SILENCE]
    assert read_silence(tmp_path / "C", merged).shape == (4, 1)
