"""Orders: every crop once, the same for every world, new in every epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jatsr_data.crops import CropRule
from jatsr_data.draws import below, draws, uniform
from jatsr_data.mixture import Repeats
from jatsr_data.order import Deal, Epoch

CROP = 64
LANES = 12


def epoch_of(frames, seed=0, number=0, *, variant=0, shuffle=True, weights=None, lanes=LANES):
    """An epoch over excerpts of these lengths, ten to a shard."""
    frames = np.array(frames, np.int64)
    count = len(frames)
    size, shard = frames * 36 + 4000, np.arange(count) // 10
    before = np.cumsum(size) - size
    offset = before - before[shard * 10] if count else before
    groups = np.arange(count) % len(weights) if weights else np.zeros(count, np.int64)
    repeats = Repeats(groups, np.array(weights or [1.0]))
    deal = Deal.of(shard, offset, size, frames * repeats.expected, lanes, 40_000)
    ids = draws(99, 0, "ids", np.arange(count))
    rule = CropRule(CROP, 3, variant, shuffle)
    return Epoch(deal, rule, ids, frames, repeats, seed, number, 4)


def rows(crops):
    columns = (crops.sample, crops.start, crops.variant)
    return list(zip(*(column.tolist() for column in columns), strict=True))


lengths = st.lists(st.integers(1, 700), min_size=0, max_size=60)


@settings(max_examples=60)
@given(
    lengths,
    st.integers(-(2**70), 2**70),
    st.integers(0, 1000),
    st.sampled_from([0, "random", "all"]),
)
def test_an_epoch_has_every_crop_of_every_excerpt_exactly_once(frames, seed, number, variant):
    epoch = epoch_of(frames, seed, number, variant=variant)
    found = rows(epoch.part(0, 1))
    assert len(found) == len(set(found)) == len(epoch)
    for sample, length in enumerate(frames):
        for chosen in range(3) if variant == "all" else [None]:
            starts = sorted(s for n, s, v in found if n == sample and chosen in (None, v))
            phase = starts[0]
            assert phase < CROP
            assert phase % 16 == 0
            expected = range(phase, length - CROP + 1, CROP) if length >= CROP else [0]
            assert starts == list(expected)


@settings(max_examples=30)
@given(lengths, st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_parts_are_slices_of_one_order(frames, parts):
    epoch = epoch_of(frames)
    whole = rows(epoch.part(0, 1))
    for part in range(parts):
        assert rows(epoch.part(part, parts)) == whole[part::parts]


def test_order_is_the_seeds_and_changes_with_the_epoch():
    frames = [300 + 7 * k for k in range(40)]
    first = rows(epoch_of(frames, 5, 2).part(0, 1))
    assert first == rows(epoch_of(frames, 5, 2).part(0, 1))
    for other in (epoch_of(frames, 5, 3), epoch_of(frames, 6, 2), epoch_of(frames, 2, 5)):
        again = rows(other.part(0, 1))
        assert again != first
        assert {n for n, _, _ in again} == {n for n, _, _ in first}
        phases = [{(n, s % CROP) for n, s, _ in order} for order in (first, again)]
        assert len(phases[0] & phases[1]) < len(frames) / 2


def test_the_order_is_this_one():
    """A resumed run depends on it: a change of it is a new ORDER_VERSION."""
    order = epoch_of([100, 200, 300, 400, 10], 1, 1, variant="random", lanes=2).part(0, 1)
    assert order.sample.tolist() == [1, 3, 2, 3, 1, 4, 0, 3, 2, 3, 2, 3, 2]
    assert order.start.tolist() == [80, 224, 32, 32, 16, 0, 0, 96, 224, 288, 160, 160, 96]
    assert order.variant.tolist() == [0, 1, 2, 2, 1, 2, 0, 2, 1, 0, 1, 2, 0]


def test_without_shuffling_all_epochs_are_one():
    frames = [300 + 7 * k for k in range(40)]
    epochs = [epoch_of(frames, 1, n, shuffle=False, variant="random") for n in range(3)]
    assert rows(epochs[0].part(0, 1)) == rows(epochs[2].part(0, 1))
    assert all(start % CROP == 0 for _, start, _ in rows(epochs[1].part(0, 1)))


def test_lanes_read_runs_of_the_dataset_and_are_equally_long():
    epoch = epoch_of([600] * 240)
    lanes = [epoch.lane(n) for n in range(LANES)]
    assert {len(lane) for lane in lanes} <= {len(epoch) // LANES, len(epoch) // LANES + 1}
    for number, lane in enumerate(lanes):
        own = epoch.deal.lane_of[epoch.deal.run[lane.sample]] == number
        assert own.mean() > 0.95  # the rest makes the lanes equal
    assert len(np.unique(epoch.deal.block)) >= 2 * LANES


def test_the_window_is_bounded():
    """A block's crops lie close together, so that few blocks are in use at a time."""
    epoch = epoch_of([600] * 2400, lanes=2)
    block = epoch.deal.block[epoch.lane(0).sample]
    first, last = {}, {}
    for place, number in enumerate(block.tolist()):
        first.setdefault(number, place)
        last[number] = place
    active = [
        sum(first[b] <= place <= last[b] for b in first) for place in range(0, len(block), 97)
    ]
    assert max(active) <= 4 + 2
    assert len(set(block[:20].tolist())) > 1


def test_weights_repeat_and_thin_out_groups():
    frames = [200] * 60
    taken = np.zeros(60)
    for number in range(40):
        epoch = epoch_of(frames, 0, number, weights=[1.0, 2.5, 0.25])
        entries = np.bincount(epoch._entries[0], minlength=60)
        assert set(entries[0::3]) == {1}
        assert sorted(entries[1::3]) == [2] * 10 + [3] * 10
        assert sorted(entries[2::3]) == [0] * 15 + [1] * 5
        taken += entries
    assert taken[2::3].min() > 0  # others in each epoch


def test_a_repeated_excerpt_is_cut_at_another_phase():
    epoch = epoch_of([700] * 30, weights=[2.0])
    starts = [sorted(s for n, s, _ in rows(epoch.part(0, 1)) if n == k) for k in range(30)]
    assert sum(len({s % CROP for s in found}) == 2 for found in starts) > 15


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_draws_are_uniform_and_independent(limit):
    numbers = draws(0, 0, "test", np.arange(200_000))
    counts = np.bincount(below(numbers, np.array([limit])), minlength=limit)
    chi = ((counts - 200_000 / limit) ** 2 / (200_000 / limit)).sum()
    assert chi < limit + 5 * np.sqrt(2 * limit) + 1
    values = uniform(numbers)
    assert 0.0 <= values.min() < values.max() < 1.0
    places = np.arange(200_000)
    others = [
        draws(1, 0, "test", places),
        draws(0, 1, "test", places),
        draws(0, 0, "other", places),
        draws(0, 0, "test", places + 1),
    ]
    for other in others:
        assert abs(np.corrcoef(values, uniform(other))[0, 1]) < 0.01
