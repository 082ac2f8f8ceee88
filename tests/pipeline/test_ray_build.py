"""Whole builds on Ray: the bytes of the local engine, whatever dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from around import Around, far_away, poisoned
from helpers import problems, shard_bytes, wait_until_gone

from shards.layout import LEDGER
from shards.storage import open_store
from shards.tables import LEDGER_SCHEMA, read_table

OPTIONS = {"val_fraction": 0.3, "shard_hours": 0.003}


def actors():
    """Processes of workers that have something to do; what nobody has waited for yet has ended."""
    mine = [p for p in psutil.Process().children(recursive=True) if p.is_running()]
    alive = [p for p in mine if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if p.name().startswith("ray::_Actor")]


@pytest.fixture(scope="module")
def reference(album, build, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "out"
    build(album, out, **OPTIONS)
    return shard_bytes(out)


@pytest.fixture
def on_ray(build, ray_cluster):
    return partial(build, engine="ray", ray_address=ray_cluster.address, **OPTIONS)


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_bytes_are_those_of_the_local_engine(album, on_ray, tmp_path, reference, count):
    on_ray(album, tmp_path / "out", encode_actors=count, in_flight=count)
    assert shard_bytes(tmp_path / "out") == reference
    assert not problems(tmp_path / "out")
    assert not on_ray(album, tmp_path / "out").changed


@pytest.mark.slow
def test_three_machines_four_actors_and_one_is_killed(
    album, on_ray, ray_cluster, tmp_path, reference
):
    """The machine goes in the middle; its tracks are built elsewhere and none is blamed."""
    with ray_cluster.nodes(1, 1) as nodes:

        def kill(count):
            if count == 3:
                ray_cluster.remove(nodes[0], politely=False)

        outcome = on_ray(album, tmp_path / "out", around=lambda engine: Around(engine, after=kill))
    assert outcome.tally.results["ok"] == 9
    assert shard_bytes(tmp_path / "out") == reference
    assert not problems(tmp_path / "out")


@pytest.mark.slow
def test_an_actor_killed_costs_nothing(album, on_ray, tmp_path, reference):
    def kill(count):
        if count == 1:
            actors()[0].kill()

    on_ray(album, tmp_path / "out", around=lambda engine: Around(engine, after=kill))
    assert shard_bytes(tmp_path / "out") == reference


@pytest.mark.slow
def test_a_track_that_kills_every_worker_is_one_failed_row(
    album, on_ray, build, tmp_path, reference
):
    music = tmp_path / "music"
    shutil.copytree(album / "a", music / "good")
    (music / "poison").mkdir()
    shutil.copy(album / "b" / "five.aiff", music / "poison" / "bad.aiff")
    on_ray(music, tmp_path / "out", max_failed=0.5, around=lambda engine: Around(engine, poisoned))
    rows = read_table(tmp_path / "out", LEDGER, LEDGER_SCHEMA)
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["source"].endswith("bad.aiff")
    assert (failed["stage"], bool(failed["hint"])) == ("worker", True)
    build(music / "good", tmp_path / "good", **OPTIONS)
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "good")


@pytest.mark.slow
def test_workers_that_do_not_see_dest_send_their_parts(album, on_ray, tmp_path, reference):
    def kill(count):
        if count == 4:
            actors()[0].kill()

    on_ray(
        album, tmp_path / "out", around=lambda engine: Around(engine, far_away, kill), in_flight=2
    )
    assert shard_bytes(tmp_path / "out") == reference


@pytest.mark.slow
def test_from_bucket_to_bucket(album, on_ray, bucket, reference):
    open_store(bucket).put_tree(album, "music")
    on_ray(f"{bucket}/music", f"{bucket}/out")
    store = open_store(f"{bucket}/out")
    tars = {name: store.read(name) for name in store.files() if name.endswith(".tar")}
    assert tars == reference


DRIVER = """
import sys
from cli import main
sys.argv = ["jatsr", "build", {source!r}, {dest!r}, "--engine", "ray", "--ray-address", {address!r},
            "--captions", "none", "--excerpt-seconds", "2", "--val-fraction", "0.3",
            "--shard-hours", "0.003"]
main()
"""


def start_driver(album, out, ray_cluster):
    code = DRIVER.format(source=str(album), dest=str(out), address=ray_cluster.address)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_parts(out, count, driver):
    for _ in range(1800):
        if len(list(out.glob(".jatsr/*/parts/*/*.json"))) >= count:
            return
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    pytest.fail("no parts")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_driver_leaves_no_workers_and_the_next_goes_on(
    album, on_ray, ray_cluster, tmp_path, reference, how
):
    out = tmp_path / "out"
    driver = start_driver(album, out, ray_cluster)
    wait_for_parts(out, 2, driver)
    driver.send_signal(how)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == (130 if how == signal.SIGTERM else -how)
    if how == signal.SIGTERM:
        assert b"run the same command again" in said
    wait_until_gone(actors, 20)
    outcome = on_ray(album, out)
    assert outcome.tally.resumed >= 2
    assert shard_bytes(out) == reference
    assert not (out / ".jatsr").exists()


def test_no_cluster_is_an_error_and_exit_1(album, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cli", "build", album, tmp_path / "out", "--engine", "ray",
         "--ray-address", "127.0.0.1:1"],
        capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 1
    assert "--ray-address" in done.stderr
    assert "ray start --head" in done.stderr
    assert not (tmp_path / "out").exists()


def test_sources_that_a_machine_does_not_see_stop_the_build(album, on_ray, tmp_path, monkeypatch):
    """Twenty failed tracks would say less."""
    from dataclasses import replace

    from shards.errors import EnvironmentFailure

    def elsewhere(session):
        return replace(session, sources=("/only/here",))

    with pytest.raises(EnvironmentFailure, match=r"/only/here.*\n.*shared file system"):
        on_ray(album, tmp_path / "out", around=lambda engine: Around(engine, elsewhere))


def litter():
    import tempfile

    return list(Path(tempfile.gettempdir()).glob(f"jatsr-{os.getuid()}/*"))


def test_nothing_is_left_behind(ray_cluster):
    wait_until_gone(actors, 20)  # Ray ends those that are busy in its own time
    from shards.scratch import scratch_folder

    with scratch_folder() as mine:  # sweeps up after killed workers
        assert litter() == [mine]
    assert not litter()
