"""Batches: the same for every world, once each, and resumable anywhere."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
from itertools import islice

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import expect_batch, write_lengths
from webdataset.tariterators import group_by_keys, tar_file_iterator

from jatsr_data import Filter, LatentDataset, LatentLoader, ReadOptions
from jatsr_data.parts import PartReader
from shards.errors import ConfigError, EnvironmentFailure, FormatError

LENGTHS = [70, 300, 1, 512, 129, 64, 200, 400, 33, 640, 90, 128, 250]
OPTIONS = ReadOptions(lanes=12, window=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    write_lengths(folder, LENGTHS)
    return folder


def dataset_of(folder, **changes):
    return LatentDataset(folder, **{"crop_frames": 64, "seed": 1, "options": OPTIONS, **changes})


def crops_of(batch):
    columns = (
        batch.key,
        batch.start.tolist(),
        batch.variant.tolist(),
        batch.hr.sum((1, 2, 3)).tolist(),
    )
    return list(zip(*columns, strict=True))


def global_batches(dataset, size, world_size, workers=0, state=None, steps=None, **options):
    """What all ranks together get, in the order of the epoch, and a state after it."""
    loaders = [
        LatentLoader(dataset, size, rank, world_size, workers, **options)
        for rank in range(world_size)
    ]
    ranks = []
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(state)
        ranks.append([crops_of(batch) for batch in islice(loader, steps)])
    states = [loader.state_dict() for loader in loaders]
    assert all(state == states[0] for state in states)
    assert len({len(batches) for batches in ranks}) == 1
    merged = [
        [crop for position in zip(*step, strict=True) for crop in position]
        for step in zip(*ranks, strict=True)
    ]
    return merged, states[0]


def test_batches_hold_what_was_stored(folder):
    for variants in ("random", "all", 1):
        loader = LatentLoader(dataset_of(folder, lr_variants=variants), 5, last="pad")
        batches = list(loader)
        for batch in batches:
            expect_batch(folder, batch)
        used = {int(v) for batch in batches for v in batch.variant[batch.frames > 0]}
        assert used == ({1} if variants == 1 else {0, 1})


@pytest.mark.parametrize("channels", [1, 2])
def test_mono_and_stereo(tmp_path, channels):
    write_lengths(tmp_path, [100, 40, 65], channels=channels)
    (batch,) = LatentLoader(dataset_of(tmp_path), 4, last="pad")
    assert batch.hr.shape == batch.lr.shape == (4, channels, 3, 64)
    expect_batch(tmp_path, batch)


@settings(max_examples=25)
@given(
    st.sampled_from([1, 2, 3, 4, 6, 12]),
    st.integers(1, 5),
    st.sampled_from(["drop", "pad"]),
    st.integers(0, 3),
)
def test_every_world_sees_the_same_global_batches(folder, world_size, times, last, epoch):
    dataset = dataset_of(folder)
    size = 12 * times if last == "pad" else 12
    start = {**LatentLoader(dataset, 12).state_dict(), "epoch": epoch}
    alone, _ = global_batches(dataset, size, 1, state=start, last=last)
    together, _ = global_batches(dataset, size, world_size, state=start, last=last)
    assert together == alone
    given_out = [crop for batch in alone for crop in batch if crop[0]]
    assert len(set(given_out)) == len(given_out)
    crops = len(dataset.epoch(epoch))
    assert len(given_out) == (crops if last == "pad" else crops // size * size)


@settings(max_examples=40)
@given(st.data())
def test_before_and_resumed_are_the_uninterrupted_run(folder, data):
    dataset = dataset_of(folder)
    worlds, sizes = st.sampled_from([1, 2, 3, 6]), st.sampled_from([6, 12, 18])
    first, second = data.draw(worlds), data.draw(worlds)
    size, later = data.draw(sizes), data.draw(sizes)
    whole, _ = global_batches(dataset, 6, 1, last="pad")
    whole = [crop for batch in whole for crop in batch if crop[0]]
    cut = data.draw(st.integers(0, len(whole) // size - 1))
    before, state = global_batches(dataset, size, first, steps=cut)
    assert state["cursor"] == cut * size
    assert len(json.dumps(state)) <= 1024
    state = json.loads(json.dumps(state))
    after, _ = global_batches(dataset, later, second, state=state, last="pad")
    assert [crop for batch in before + after for crop in batch if crop[0]] == whole


@pytest.mark.parametrize("world_and_workers", [(1, 2), (2, 3), (1, 12)])
def test_worker_processes_change_nothing(folder, world_and_workers):
    world_size, workers = world_and_workers
    dataset = dataset_of(folder)
    alone, _ = global_batches(dataset, 6, 1)
    before, state = global_batches(dataset, 6, world_size, workers, steps=2)
    after, _ = global_batches(dataset, 6, 1, 0, state=state)
    assert before + after == alone
    resumed, _ = global_batches(dataset, 6, world_size, workers, state=state)
    assert resumed == after


def test_spawned_workers_change_nothing(folder):
    dataset = dataset_of(folder)
    alone, _ = global_batches(dataset, 6, 1)
    spawned, _ = global_batches(dataset, 6, 1, 1, start_method="spawn")
    assert spawned == alone


def test_epochs_follow_each_other_and_can_be_chosen(folder):
    loader = LatentLoader(dataset_of(folder), 6, num_workers=2)
    epochs = [[crops_of(batch) for batch in loader] for _ in range(3)]
    assert loader.epoch == 3
    assert epochs[0] != epochs[1] != epochs[2]
    peeked = crops_of(next(iter(loader)))  # an epoch that was begun begins again
    assert peeked == crops_of(next(iter(loader)))
    loader.set_epoch(1)
    assert [crops_of(batch) for batch in loader] == epochs[1]
    again = LatentLoader(dataset_of(folder), 6)
    assert [[crops_of(batch) for batch in again] for _ in range(3)] == epochs


def test_len_is_the_number_of_batches_of_the_epoch_that_comes(folder):
    for last in ("drop", "pad"):
        loader = LatentLoader(dataset_of(folder), 4, last=last)
        for _ in range(5):
            expected = len(loader)
            assert len(list(loader)) == expected > 0


def test_a_state_at_the_end_of_an_epoch_is_the_beginning_of_the_next(folder):
    loader = LatentLoader(dataset_of(folder), 6)
    states = [loader.state_dict() for _ in loader]
    assert (states[-1]["epoch"], states[-1]["cursor"]) == (1, 0)
    again = LatentLoader(dataset_of(folder), 6)
    again.load_state_dict(states[-1])
    assert crops_of(next(iter(again))) == crops_of(next(iter(loader)))


def test_a_state_of_something_else_is_refused_and_says_what_differs(folder, tmp_path):
    state = LatentLoader(dataset_of(folder), 6).state_dict()
    others = {
        "crop_frames": dataset_of(folder, crop_frames=32),
        "seed": dataset_of(folder, seed=2),
        "select": dataset_of(folder, select=Filter(min_seconds=0.5)),
        "lanes": dataset_of(folder, options=ReadOptions(lanes=24, window=2)),
        "lr_variants": dataset_of(folder, lr_variants="all"),
    }
    for name, other in others.items():
        with pytest.raises(ConfigError, match=rf"different are: {name} \(then .*now"):
            LatentLoader(other, 6).load_state_dict(state)
    write_lengths(tmp_path, [*LENGTHS, 100])
    with pytest.raises(ConfigError, match="extended or rebuilt"):
        LatentLoader(dataset_of(tmp_path), 6).load_state_dict(state)
    for wrong in ({}, {**state, "version": 2}, {**state, "more": 1}, {**state, "cursor": -1}, None):
        with pytest.raises(FormatError, match="state"):
            LatentLoader(dataset_of(folder), 6).load_state_dict(wrong)


def test_sizes_that_do_not_fit_are_refused_with_those_that_do(folder):
    dataset = dataset_of(folder)
    with pytest.raises(ConfigError, match=r"12 lanes(.|\n)*1, 2, 3, 4, 6, 12;(.|\n)*lanes=60"):
        LatentLoader(dataset, 10, 0, 5)
    with pytest.raises(ConfigError, match="does not divide the 12 lanes"):
        LatentLoader(dataset, 6, 0, 3, 8)
    with pytest.raises(ConfigError, match="not a multiple of world_size=4"):
        LatentLoader(dataset, 6, 0, 4)
    with pytest.raises(ConfigError, match="rank=2: expected a number below world_size=2"):
        LatentLoader(dataset, 6, 2, 2)
    with pytest.raises(ConfigError, match="has no batch of 6000"):
        LatentLoader(dataset, 6000)
    with pytest.raises(ConfigError, match="'drop' or 'pad'"):
        LatentLoader(dataset, 6, last="repeat")


@pytest.mark.parametrize("lengths", [[10], [64], [2000]])
def test_one_sample_is_enough(tmp_path, lengths):
    write_lengths(tmp_path, lengths)
    dataset = dataset_of(tmp_path)
    batches, _ = global_batches(dataset, 4, 4, 3, last="pad")
    given_out = [crop for batch in batches for crop in batch if crop[0]]
    assert len(set(given_out)) == len(given_out) == len(dataset)


def test_empty_and_unknown_splits_and_variants(folder):
    with pytest.raises(ConfigError, match=r"split 'val' is empty, found {'train': 13"):
        dataset_of(folder, split="val")
    with pytest.raises(ConfigError, match="no split 'test'"):
        dataset_of(folder, split="test")
    with pytest.raises(ConfigError, match=r"2 low-res variants(.|\n)*0 \(lr0\), 1 \(lr1\)"):
        dataset_of(folder, lr_variants=2)
    with pytest.raises(FormatError, match=r"found no dataset\.json"):
        dataset_of(folder / "train")


def test_a_dataset_that_is_extended_meanwhile_is_read_as_it_was(tmp_path):
    write_lengths(tmp_path, LENGTHS[:5])
    loader = LatentLoader(dataset_of(tmp_path), 3, last="pad")
    batches = iter(loader)
    first = [crops_of(next(batches))]
    table = (tmp_path / "samples.parquet").read_bytes()
    write_lengths(tmp_path, LENGTHS)  # the same samples first, then more
    assert (tmp_path / "samples.parquet").read_bytes() != table
    seen = {crop[0] for batch in [*first, *map(crops_of, batches)] for crop in batch} - {""}
    assert len(seen) == 5
    assert len(dataset_of(tmp_path).index) == len(LENGTHS)


def test_damage_is_named_and_does_not_reach_a_trainer(tmp_path):
    manifest = write_lengths(tmp_path, LENGTHS)
    path = tmp_path / manifest.shards[1].name
    whole = path.read_bytes()
    path.write_bytes(whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    for workers in (0, 2):
        with pytest.raises(FormatError, match=r"000001\.tar(.|\n)*expected(.|\n)*found"):
            list(LatentLoader(dataset_of(tmp_path), 6, num_workers=workers))
    path.write_bytes(whole[:3000])
    with pytest.raises(FormatError, match=r"000001\.tar(.|\n)*3000"):
        list(LatentLoader(dataset_of(tmp_path), 6))
    path.unlink()
    with pytest.raises(FormatError, match=r"000001\.tar"):
        list(LatentLoader(dataset_of(tmp_path), 6))
    path.write_bytes(whole)
    list(LatentLoader(dataset_of(tmp_path), 6))


def test_a_killed_worker_is_an_error_that_says_so_and_the_next_run_is_fine(folder):
    dataset = dataset_of(folder, crop_frames=16)
    loader = LatentLoader(dataset, 6, num_workers=2)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match=r"killed by SIGKILL(.|\n)*num_workers"):
        list(batches)
    assert not multiprocessing.active_children()
    loader.load_state_dict(state)
    alone, _ = global_batches(dataset, 6, 1)
    assert [crops_of(batch) for batch in islice(loader, 3)] == alone[1:4]


def test_workers_end_with_the_loader_and_when_its_process_is_killed(folder):
    context = multiprocessing.get_context("fork")
    told, tells = context.Pipe(duplex=False)
    process = context.Process(target=_read_until_killed, args=(folder, tells))
    process.start()
    workers = told.recv()
    assert len(workers) == 2
    process.kill()
    process.join()
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _read_until_killed(folder, tells):
    loader = LatentLoader(dataset_of(folder, crop_frames=16), 6, num_workers=2)
    next(batches := iter(loader))
    tells.send([process.pid for process in multiprocessing.active_children()])
    signal.pause()
    del batches


def test_one_loader_has_one_iteration_at_a_time(folder):
    for workers in (0, 2):
        loader = LatentLoader(dataset_of(folder), 6, num_workers=workers)
        whole = [crops_of(batch) for batch in loader]
        loader.set_epoch(0)
        first = iter(loader)
        next(first)
        assert [crops_of(batch) for batch in loader] == whole
        with pytest.raises(ConfigError, match="another iteration"):
            next(first)


def test_a_worker_that_died_between_epochs_is_replaced(folder):
    loader = LatentLoader(dataset_of(folder), 6, num_workers=2)
    whole = [crops_of(batch) for batch in loader]
    process = multiprocessing.active_children()[0]
    process.kill()
    process.join()
    loader.set_epoch(0)
    assert [crops_of(batch) for batch in loader] == whole
    loader.close()
    assert not multiprocessing.active_children()


def test_a_child_of_the_process_leaves_its_workers_alone(folder):
    loader = LatentLoader(dataset_of(folder), 6, num_workers=1)
    batches = iter(loader)
    found = [crops_of(next(batches))]
    told, tells = multiprocessing.get_context("fork").Pipe(duplex=False)

    def use_it():
        tells.send([crops_of(batch) for batch in loader])
        loader.close()

    child = multiprocessing.get_context("fork").Process(target=use_it)
    child.start()
    whole = told.recv()
    child.join()
    assert found + [crops_of(batch) for batch in batches] == whole
    again = pickle.loads(pickle.dumps(loader))
    assert [crops_of(batch) for batch in again] == [crops_of(batch) for batch in loader]


def test_what_hangs_does_not_hold_up_the_end_of_an_iteration(folder, monkeypatch):
    """A server that never answers, and the user has pressed Ctrl-C."""
    real, asked, answer = PartReader.read, threading.Event(), threading.Event()

    def read(reader, request):
        if request.first:
            asked.set()
            answer.wait(60)
        return real(reader, request)

    monkeypatch.setattr("jatsr_data.ahead._PATIENCE", 0.05)
    loader = LatentLoader(dataset_of(folder), 6)
    batches = iter(loader)
    with monkeypatch.context() as patch:
        patch.setattr(PartReader, "read", read)
        first = crops_of(next(batches))
        assert asked.wait(30)
        began = time.monotonic()
        batches.close()
        assert time.monotonic() - began < 20
    assert crops_of(next(iter(loader))) == first
    answer.set()


def test_numbers_of_any_kind_are_taken_and_others_refused(folder):
    dataset = dataset_of(folder, crop_frames=np.int64(64), seed=np.int32(1),
                         select=Filter(min_rolloff=np.float32(0.25)))  # fmt: skip
    loader = LatentLoader(dataset, np.int64(6), np.int64(0), np.int64(1), np.int64(0))
    assert json.dumps(loader.state_dict())
    for wrong in ({"crop_frames": 6.5}, {"crop_frames": 0}, {"seed": "1"}, {"select": {}}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
            dataset_of(folder, **wrong)
    for name, value in {"prefetch": 0, "num_workers": 1.5, "rank": -1, "start_method": "x"}.items():
        with pytest.raises(ConfigError, match=f"{name}="):
            LatentLoader(dataset, 6, **{name: value})
    with pytest.raises(ConfigError, match="epoch=-1"):
        loader.set_epoch(-1)


def test_a_state_with_less_left_than_a_batch(folder):
    loader = LatentLoader(dataset_of(folder), 6)
    *_, last = (loader.state_dict() for _, _ in zip(range(len(loader) - 1), loader, strict=False))
    larger = LatentLoader(dataset_of(folder), 24)
    larger.load_state_dict(last)
    assert list(larger) == []
    assert larger.epoch == 1


@pytest.mark.parametrize("damage", ["twice", "null", "gap"])
def test_a_table_that_does_not_fit_the_shards_is_refused(folder, tmp_path, damage):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    table = pq.read_table(tmp_path / "samples.parquet")
    rows = table.to_pylist(maps_as_pydicts="strict")
    if damage == "twice":
        rows[1] = rows[0]
    rows[2] |= {"null": {"digest": None}, "gap": {"offset": 512}}.get(damage, {})
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "samples.parquet")
    with pytest.raises(FormatError, match=r"samples\.parquet: expected (samples of|values in)"):
        dataset_of(tmp_path)


def test_a_moved_dataset_is_the_same_dataset(folder, tmp_path):
    state = LatentLoader(dataset_of(folder), 6).state_dict()
    shutil.copytree(folder, tmp_path / "copy")
    LatentLoader(dataset_of(tmp_path / "copy"), 6).load_state_dict(state)


def test_stock_webdataset_sees_the_same_bytes(folder):
    stored = {}
    for path in folder.glob("train/*.tar"):
        with path.open("rb") as file:
            members = ({**member, "__url__": path.name} for member in tar_file_iterator(file))
            for sample in group_by_keys(members):
                stored[sample["__key__"]] = np.load(io.BytesIO(sample["hr.npy"]))
    seen = set()
    for batch in LatentLoader(dataset_of(folder), 6, last="pad"):
        for n, key in enumerate(batch.key):
            if key:
                start, frames = int(batch.start[n]), int(batch.frames[n])
                expected = stored[key][..., start : start + frames]
                assert np.array_equal(batch.hr[n].numpy()[..., :frames], expected)
                seen.add(key)
    assert seen == set(stored)
