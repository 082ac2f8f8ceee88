"""Checkpoints are whole whenever the process is killed, and damage is noticed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_dit import TINY
from torch import Tensor

from jatsr_model import whole_folders
from jatsr_model.dit import DiT
from jatsr_model.model_folder import (
    CARD,
    WEIGHTS,
    Card,
    ModelError,
    load_network,
    read_card,
    save_network,
)
from jatsr_model.training.checkpoints import (
    RECORD,
    TENSORS,
    mark,
    newest_intact,
    read_checkpoint,
    steps,
    write_checkpoint,
)
from jatsr_model.training.retention import prune, set_aside_after, to_keep
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import pretty_json, sha256_json

MODEL = Card(model="tiny", config=TINY, prediction="x", latents={"space": "mdct"})
STATE = DiT(TINY).state_dict()
FORK = multiprocessing.get_context("fork")


def content(step: int, size: int = 1000) -> dict[str, Tensor]:
    """Tensors that tell which step they are of."""
    return {"raw": torch.full((size,), float(step)), "moment": torch.tensor(float(step))}


def write(folder: Path, step: int, size: int = 1000, **facts: Any) -> Path:
    return write_checkpoint(folder, step, STATE, MODEL, content(step, size), facts)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint holds what ``write`` wrote."""
    found = read_checkpoint(path)
    assert set(os.listdir(path)) == {WEIGHTS, CARD, TENSORS, RECORD}
    assert path.name == f"{found.step:08d}"
    return bool((found.tensors["raw"] == found.step).all())


def hidden_files(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    tensors = {**content(7), "half": torch.randn(3, 5).bfloat16(), "turned": torch.randn(4, 3).T}
    facts = {"hours": 0.1, "loader": {"cursor": 12, "seed": 2**63}, "losses": [1e-300, 0.1]}
    path = write_checkpoint(tmp_path / "new", 7, STATE, MODEL, tensors, facts)
    found = read_checkpoint(path)
    assert (found.path, found.step, found.facts, found.card) == (path, 7, facts, MODEL)
    for written, read in ((tensors, found.tensors), (STATE, found.network_state)):
        torch.testing.assert_close(dict(read), dict(written), rtol=0, atol=0)
    assert read_checkpoint(tmp_path / "new" / "last").path == path
    assert newest_intact(tmp_path / "new").path == path
    assert write(tmp_path, 123_456_789).name == "123456789"


def test_a_checkpoint_is_a_model_folder(tmp_path: Path) -> None:
    write(tmp_path, 5)
    mark(tmp_path, "best", 5)
    network, card = load_network(tmp_path / "best")
    torch.testing.assert_close(network.state_dict(), STATE, rtol=0, atol=0)
    assert card == MODEL


def test_scales_survive_in_a_card_to_the_last_bit(tmp_path: Path) -> None:
    scales = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * np.float32(1e-5)
    latents = {"space": "projected", "hr.mean": scales.tolist(), "crop_frames": 512}
    card = Card(model="", config=TINY, prediction="x", latents=latents)
    save_network(tmp_path / "a", DiT(TINY), card)
    found = read_card(tmp_path / "a")[0]
    assert found == card
    assert torch.as_tensor(found.latents["hr.mean"]).numpy().tobytes() == scales.tobytes()


def test_cards_of_before_there_were_latents_are_read(tmp_path: Path) -> None:
    save_network(tmp_path / "a", DiT(TINY), Card(model="x", config=TINY, prediction="x"))
    card = tmp_path / "a" / CARD
    facts = json.loads(card.read_text())
    assert facts.pop("latents") == {}
    card.write_bytes(pretty_json(facts))
    assert load_network(tmp_path / "a")[1].latents == {}
    card.write_bytes(pretty_json({**facts, "latents": 3}))
    with pytest.raises(ModelError, match="should describe a network"):
        load_network(tmp_path / "a")


@contextmanager
def forked(work: Callable[[Connection], None]) -> Iterator[tuple[int, Connection]]:
    """A child that has everything imported; killed at the end."""
    ours, theirs = FORK.Pipe()

    def run() -> None:
        ours.close()
        torch.set_num_threads(1)  # the threads of the parent are not here
        work(theirs)

    child = FORK.Process(target=run)
    child.start()
    theirs.close()
    assert child.pid is not None
    try:
        yield child.pid, ours
    finally:
        child.kill()
        child.join()
        ours.close()


def test_kill_9_at_any_moment_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """A training that is killed and continued again and again, and keeps two checkpoints."""

    def train(pipe: Connection) -> None:
        step = (steps(tmp_path) or [0])[-1]
        while True:
            step += 1
            write(tmp_path, step, size=300_000)
            pipe.send(step)
            mark(tmp_path, "best", step - step % 3 or step)
            prune(tmp_path, 2, 0)

    chance, last = random.Random(0), 0
    for _ in range(15):
        with forked(train) as (pid, pipe):
            last = pipe.recv()
            moment = chance.uniform(0, 0.06)  # a few checkpoints, each of about 15 ms
            while pipe.poll(moment):
                last, moment = pipe.recv(), moment * 0.7
            os.kill(pid, signal.SIGKILL)
            try:
                while True:
                    last = pipe.recv()
            except EOFError:
                pass
        found = newest_intact(tmp_path)
        assert found.path is not None
        assert found.damaged == ()
        assert int(found.path.name) in (last, last + 1)
        for path in (found.path, (tmp_path / "last").resolve(), (tmp_path / "best").resolve()):
            assert is_whole(path)
    prune(tmp_path, 2, 0)
    assert hidden_files(tmp_path) == []
    assert last >= 15


@pytest.mark.parametrize("step", [2, 3])
def test_killed_at_each_operation(tmp_path: Path, step: int) -> None:
    """Writes step 3, or step 2 again, prunes, and is killed before each thing that it does."""
    seen = 0
    while True:

        def once(pipe: Connection, moment: int = seen) -> None:
            count, parent = -1, os.getppid()

            def kill(event: str, _: object) -> None:
                nonlocal count
                if event.startswith(("os.", "shutil.")) or event == "open":
                    count += 1
                    if count == moment:
                        os.kill(os.getpid(), signal.SIGKILL)

            assert parent != os.getpid()
            sys.addaudithook(kill)
            write(tmp_path, step, hours=step)
            pipe.send("written")
            prune(tmp_path, 1, 0)
            pipe.send("pruned")

        for before in (1, 2):
            write(tmp_path, before, hours=0)
        with forked(once) as (_, pipe):
            said = []
            try:
                while len(said) < 2:
                    said.append(pipe.recv())
            except EOFError:
                pass
        found = newest_intact(tmp_path)
        assert found.damaged == ()
        assert found.path is not None
        assert found.path.name == f"{step:08d}" or ("written" not in said and step == 3)
        assert int(found.path.name) >= 2
        assert is_whole(found.path)
        assert is_whole((tmp_path / "last").resolve())
        prune(tmp_path, 5, 0)
        assert hidden_files(tmp_path) == []
        if said == ["written", "pruned"]:
            break
        seen += 1
        set_aside_after(tmp_path, min(steps(tmp_path)))
    assert seen > 30


@given(
    name=st.sampled_from([WEIGHTS, CARD, TENSORS, RECORD]),
    where=st.floats(0, 1),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_is_noticed_and_the_one_before_chosen(
    two: Path, name: str, where: float, bit: int
) -> None:
    file = two / "00000002" / name
    good = file.read_bytes()
    bad = bytearray(good)
    bad[min(int(where * len(bad)), len(bad) - 1)] ^= 1 << bit
    file.write_bytes(bad)
    try:
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            read_checkpoint(two / "00000002")
        found = newest_intact(two)
    finally:
        file.write_bytes(good)
    assert found.path == two / "00000001"
    assert len(found.damaged) == 1
    assert name in found.damaged[0]
    assert newest_intact(two).path == two / "00000002"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    write(folder, 1)
    write(folder, 2)
    return folder


@pytest.mark.parametrize("name", [WEIGHTS, CARD, TENSORS, RECORD])
def test_torn_and_missing_files_are_noticed(tmp_path: Path, name: str) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step)
    file = tmp_path / "00000003" / name
    file.write_bytes(file.read_bytes()[:-1])
    (tmp_path / "00000002" / name).unlink()
    found = newest_intact(tmp_path)
    assert found.path == tmp_path / "00000001"
    assert [name in message for message in found.damaged] == [True, True]
    for path in (tmp_path / "00000004", tmp_path / "last"):
        with pytest.raises(ModelError):
            read_checkpoint(path)


def test_other_versions_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    record = json.loads((path / RECORD).read_bytes())
    del record["sha256"]
    record["version"] = 2
    (path / RECORD).write_bytes(pretty_json({**record, "sha256": sha256_json(record)}))
    with pytest.raises(ModelError, match="version 2, expected 1") as caught:
        read_checkpoint(path)
    assert "version of jatsr" in caught.value.hint


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    assert newest_intact(tmp_path / "none").path is None
    (tmp_path / "00000001").write_bytes(b"")
    (tmp_path / "1").mkdir()
    (tmp_path / "000000001").mkdir()
    assert newest_intact(tmp_path).path is None
    (tmp_path / "00000002").mkdir()
    found = newest_intact(tmp_path)
    assert (found.path, len(found.damaged)) == (None, 1)


def test_too_few_resources_are_not_taken_for_damage(two: Path, monkeypatch: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for name in ("read_bytes", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, fail)
            with pytest.raises(EnvironmentFailure, match="Too many open files"):
                newest_intact(two)


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize(
    "place", ["mkdir", "write_bytes", "fsync_tree", "rename", "fsync_folder", "symlink"]
)
def test_a_full_disk_leaves_older_checkpoints_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, step: int
) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2, hours=1)
    before = snapshot(tmp_path)
    owner = {"mkdir": Path, "write_bytes": Path, "rename": os, "symlink": os}

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")

    with monkeypatch.context() as patch:
        patch.setattr(owner.get(place, whole_folders), place, fail)
        with pytest.raises(EnvironmentFailure, match="No space left") as caught:
            write(tmp_path, step, hours=1)
    assert "free" in caught.value.hint
    assert hidden_files(tmp_path) == []
    after = snapshot(tmp_path)
    if place not in ("symlink", "fsync_folder"):  # then it is there already
        assert after == before
    assert {name: after[name] for name in before} == before
    assert is_whole(write(tmp_path, step))


@pytest.mark.parametrize("room", [1000, 200_000])
def test_weights_that_do_not_fit_on_the_disk(tmp_path: Path, room: int) -> None:
    """A limit on the size of files makes the writer of tensors itself fail."""
    write(tmp_path, 1)
    before, limits = snapshot(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    assert (tmp_path / "00000001" / WEIGHTS).stat().st_size < 200_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(EnvironmentFailure, match="could not be written") as caught:
            write(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "disk full" in caught.value.hint
    assert snapshot(tmp_path) == before
    assert hidden_files(tmp_path) == []


def test_what_cannot_be_kept_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, 1, best=float("inf"))
    shared = torch.zeros(10)
    with pytest.raises(ModelError, match="cannot be saved"):
        write_checkpoint(tmp_path, 1, STATE, MODEL, {"a": shared, "b": shared}, {})
    assert os.listdir(tmp_path) == []


def test_writing_copies_no_tensor(tmp_path: Path) -> None:
    """The high-water mark of memory rises by far less than the tensors have."""

    def work(pipe: Connection) -> None:
        tensors = {str(i): torch.full((1 << 22,), float(i)) for i in range(16)}  # 256 MiB
        parts = torch.zeros(1 << 24).split(1 << 20)  # apart in one piece of memory
        tensors |= {f"part {i}": part for i, part in enumerate(parts)}
        Path("/proc/self/clear_refs").write_text("5")
        before = high_water()
        write_checkpoint(tmp_path, 1, STATE, MODEL, tensors, {})
        pipe.send(high_water() - before)

    def high_water() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    with forked(work) as (_, pipe):
        assert pipe.recv() < 48 << 20


def test_links_are_relative_and_moved_at_once(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path / "run", step)
    mark(tmp_path / "run", "best", 1)
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert read_checkpoint(moved / "best").step == 1
    assert read_checkpoint(moved / "last").step == 2
    mark(moved, "best", 2)
    assert os.readlink(moved / "best") == "00000002"
    with pytest.raises(ModelError, match="no checkpoint of step 3"):
        mark(moved, "best", 3)
    (moved / "best").unlink()
    (moved / "best").mkdir()
    with pytest.raises(EnvironmentFailure, match="could not be made a link"):
        mark(moved, "best", 2)
    assert hidden_files(moved) == []


def test_continuing_from_an_earlier_step_sets_later_ones_aside(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    mark(tmp_path, "best", 3)
    assert set_aside_after(tmp_path, 3) == [4]
    assert read_checkpoint(tmp_path / "best").step == 3
    assert set_aside_after(tmp_path, 2) == [3]
    aside = ["00000003.damaged", "00000004.damaged"]
    assert sorted(os.listdir(tmp_path)) == ["00000001", "00000002", *aside, "last"]
    assert read_checkpoint(tmp_path / "last").step == 2
    with pytest.raises(ModelError, match="no checkpoint of step 9"):
        set_aside_after(tmp_path, 9)
    assert steps(tmp_path) == [1, 2]


def test_pruning_keeps_the_last_the_best_and_one_of_every_so_many_hours(tmp_path: Path) -> None:
    for step in range(12):
        write(tmp_path, step, hours=step / 4)
    mark(tmp_path, "best", 6)
    (tmp_path / "00000004" / RECORD).write_bytes(b"torn")
    removed = prune(tmp_path, 2, 1.0)
    assert steps(tmp_path) == [0, 5, 6, 8, 10, 11]
    assert removed == [1, 2, 3, 4, 7, 9]
    assert prune(tmp_path, 2, 1.0) == []
    prune(tmp_path, 1, 0)
    assert steps(tmp_path) == [6, 11]
    with pytest.raises(ConfigError, match="--keep 0"):
        prune(tmp_path, 0, 0)


def test_what_dead_processes_left_goes_and_what_living_ones_do_stays(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with forked(lambda pipe: pipe.recv()) as (pid, _):
        living = tmp_path / f".00000002.new.{pid}.tmp"
        living.mkdir()
        foreign = tmp_path / ".somebody.tmp"
        foreign.mkdir()
        (tmp_path / f".best.new.{os.getpid()}.tmp").symlink_to("00000001")
        prune(tmp_path, 1, 0)
        assert set(hidden_files(tmp_path)) == {living.name, foreign.name}
    prune(tmp_path, 1, 0)
    assert hidden_files(tmp_path) == [foreign.name]


TIMES = st.lists(
    st.tuples(st.integers(1, 500), st.floats(0, 3, allow_subnormal=False)), min_size=1, max_size=25
)


@given(gaps=TIMES, keep_last=st.integers(1, 6), keep_hours=st.sampled_from([0, 0.5, 1, 2.5, 24]),
       data=st.data())  # fmt: skip
def test_what_is_kept(
    gaps: list[tuple[int, float]], keep_last: int, keep_hours: float, data: st.DataObject
) -> None:
    hours: dict[int, float | None] = {}
    step, time = 0, 0.0
    for more_steps, more_time in gaps:
        step, time = step + more_steps, time + more_time
        hours[step] = time
    best = data.draw(st.sampled_from(sorted(hours)))
    kept = to_keep(hours, {best}, keep_last, keep_hours)
    assert set(sorted(hours)[-keep_last:]) | {best} <= kept <= hours.keys()
    others = kept - set(sorted(hours)[-keep_last:]) - {best}
    for time in range(int(max(hours.values()) / keep_hours) + 1) if keep_hours else ():
        inside = [s for s, h in hours.items() if time <= h / keep_hours < time + 1]
        assert not inside or min(inside) in kept
        assert len(others & set(inside)) <= 1
    assert keep_hours or not others
    left = {s: h for s, h in hours.items() if s in kept}
    assert to_keep(left, {best}, keep_last, keep_hours) == kept
    unknown: Mapping[int, None] = dict.fromkeys(hours)
    assert to_keep(unknown, {best}, keep_last, keep_hours) == to_keep(hours, {best}, keep_last, 0)


@given(gaps=TIMES, keep_last=st.integers(1, 6), keep_hours=st.sampled_from([0.5, 1, 2.5]))
def test_pruning_as_one_goes_is_pruning_at_the_end(
    gaps: list[tuple[int, float]], keep_last: int, keep_hours: float
) -> None:
    hours: dict[int, float | None] = {}
    left: dict[int, float | None] = {}
    step, time = 0, 0.0
    for more_steps, more_time in gaps:
        step, time = step + more_steps, time + more_time
        hours[step] = left[step] = time
        kept = to_keep(left, set(), keep_last, keep_hours)
        left = {s: h for s, h in left.items() if s in kept}
    assert left.keys() == to_keep(hours, set(), keep_last, keep_hours)
