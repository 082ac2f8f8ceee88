"""Moments are exact, merge in any grouping, and survive their file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.statistics import (
    Moments,
    merge_all,
    read_shard_statistics,
    read_totals,
    write_statistics,
)


@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 5),
    lengths=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    offset=st.sampled_from([0.0, 1.0, -1e4, 1e-6]),
    scale=st.sampled_from([1.0, 1e-5, 1e4]),
)
@settings(max_examples=60)
def test_merged_parts_are_the_moments_of_the_whole(seed, channels, lengths, offset, scale):
    random = np.random.default_rng(seed)
    parts = [random.standard_normal((channels, n)) * scale + offset for n in lengths]
    whole = np.concatenate(parts, axis=1)
    merged = merge_all((Moments.of(part) for part in parts), channels)
    assert merged.n == whole.shape[1]
    if merged.n:
        np.testing.assert_allclose(merged.mean, whole.mean(axis=1), rtol=1e-12, atol=1e-12 * scale)
        rounding = 1e-15 * abs(offset) * scale  # of means, where the data lie far from zero
        np.testing.assert_allclose(merged.variance, whole.var(axis=1), rtol=1e-8, atol=rounding)
        np.testing.assert_array_equal(merged.min, whole.min(axis=1))
        np.testing.assert_array_equal(merged.max, whole.max(axis=1))


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 4))
@settings(max_examples=30)
def test_grouping_of_merges_does_not_matter(seed, cut):
    random = np.random.default_rng(seed)
    parts = [Moments.of(random.standard_normal((3, 20)) + 5) for _ in range(5)]
    left = merge_all(parts[:cut], 3).merge(merge_all(parts[cut:], 3))
    assert left.same_as(merge_all(parts, 3), relative=1e-12)


def test_zero_mean_data_keep_their_variance():
    moments = Moments.of(np.array([[-1.0, 1.0, -2.0, 2.0]]))
    assert (moments.n, moments.mean[0], moments.m2[0]) == (4, 0.0, 10.0)


def test_channels_of_a_batch_are_pooled():
    values = np.arange(24.0).reshape(2, 3, 4)
    pooled = Moments.of(values)
    np.testing.assert_allclose(pooled.mean, values.transpose(1, 0, 2).reshape(3, -1).mean(axis=1))


def test_statistics_file_round_trip_and_stock_zarr(tmp_path):
    random = np.random.default_rng(0)
    table = {
        "train": {
            f"train/{i:06d}.tar": {
                s: Moments.of(random.standard_normal((4, 9 + i))) for s in ("hr", "lr0")
            }
            for i in range(3)
        },
        "val": {"val/000000.tar": {s: Moments.of(np.ones((4, 2))) for s in ("hr", "lr0")}},
    }
    path = tmp_path / "stats.zarr"
    write_statistics(path, table, {"codec": {"name": "mdct"}})
    back = read_shard_statistics(tmp_path)
    for split, shards in table.items():
        for name, streams in shards.items():
            for stream, moments in streams.items():
                assert back[split][name][stream].same_as(moments, relative=0)
    total = read_totals(tmp_path, "train")["hr"]
    assert total.n == 9 + 10 + 11
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["train/hr/mean"][:], total.mean)
    assert int(group["train/hr/n"][0]) == total.n
    assert read_totals(tmp_path, "test") == {}
