"""RayEngine: every task ends once, whatever dies, here or with its machine."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from helpers import wait_until_gone
from sessions import Big, BigSession, HostileSession, Placed, SlowSession, StillbornSession

from pipeline.engines import ray_run, ray_staff
from pipeline.engines.base import Crashed, Partial, Progress, Run
from pipeline.engines.dispatch import Dispatch
from pipeline.engines.echo import EchoSession, EchoTask
from pipeline.engines.ray import RayEngine
from pipeline.engines.ray_cluster import Node
from pipeline.engines.ray_options import RayOptions
from pipeline.engines.ray_pool import Hand, Pool
from pipeline.engines.ray_staff import Job, Staff
from pipeline.engines.ray_worker import OUTBOX_BYTES, Reply, Worker
from shards.errors import ConfigError, EnvironmentFailure

ROOT = Path(__file__).parents[2]
SESSION_SECONDS = 10.0  # longer than anything that is awaited here


def tasks(count: int) -> list[EchoTask]:
    return [EchoTask(str(i)) for i in range(count)]


def keys(count: int) -> list[str]:
    return sorted(str(i) for i in range(count))


def keys_of(events: list[object]) -> list[str]:
    return sorted(e.key for e in events if hasattr(e, "key"))


def crashes(events: list[object]) -> dict[str, Crashed]:
    return {e.task.key: e for e in events if isinstance(e, Crashed)}


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(ray_run, "_GRACE_SECONDS", 0.2)


@pytest.fixture
def engine(ray_cluster) -> Iterator[RayEngine]:
    with RayEngine(ray_cluster.address, RayOptions(stall_seconds=30)) as engine:
        yield engine


def test_one_result_per_task_and_all_progress_in_several_runs(engine):
    assert engine.describe().endswith("1 node, 2 CPUs, 0 GPUs, 2 actors")
    for count in (7, 300, 1, 0):
        events = list(engine.run(EchoSession(), tasks(count)))
        assert keys_of(events) == keys(count)
        assert sum(e.audio_seconds for e in events if isinstance(e, Progress)) == count


def test_a_pool_larger_than_what_is_in_flight_gets_its_tasks(engine):
    assert keys_of(list(engine.run(HostileSession(hold=25), tasks(60)))) == keys(60)


def test_a_poisoned_task_costs_only_itself(engine):
    todo = [EchoTask(k) for k in ("a", "b", "segfault", "c", "d", "e")]
    events = list(engine.run(HostileSession(), todo))
    assert keys_of(events) == ["a", "b", "c", "d", "e"]
    (crash,) = crashes(events).values()
    assert (crash.task.key, crash.times) == ("segfault", 3)
    assert "died" in crash.reason


def test_workers_killed_once_cost_nothing(engine, tmp_path):
    names = ["a", str(tmp_path / "once1"), "b", "c", str(tmp_path / "once2"), "d"]
    events = list(engine.run(HostileSession(), [EchoTask(name) for name in names]))
    assert keys_of(events) == sorted(names)
    assert not crashes(events)


def test_a_worker_killed_from_outside_costs_nothing(engine):
    events, killed = [], set()
    for event in engine.run(SlowSession(), tasks(60)):
        events.append(event)
        if isinstance(event, Placed) and not killed:
            os.kill(event.pid, signal.SIGKILL)
            killed.add(event.pid)
    assert keys_of(events) == keys(60)
    assert not crashes(events)


def test_a_hanging_task_is_ended(ray_cluster):
    options = RayOptions(stall_seconds=1.5, tries=2)
    with RayEngine(ray_cluster.address, options) as engine:
        todo = [EchoTask("a"), EchoTask("hang"), EchoTask("b"), EchoTask("c")]
        events = list(engine.run(HostileSession(), todo))
    assert keys_of(events) == ["a", "b", "c"]
    assert "no sign of life" in crashes(events)["hang"].reason


def test_defects_and_machine_failures_stop_the_run_but_not_the_engine(engine):
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
        list(engine.run(HostileSession(), [EchoTask("bug"), *tasks(20)]))
    with pytest.raises(EnvironmentFailure, match="disk full") as caught:
        list(engine.run(HostileSession(), [EchoTask("full"), *tasks(20)]))
    assert caught.value.message == "disk full"
    with pytest.raises(EnvironmentFailure, match="could not start, 3 times in a row"):
        list(engine.run(StillbornSession(), tasks(5)))
    assert keys_of(list(engine.run(EchoSession(), tasks(20)))) == keys(20)


def test_an_abandoned_run_leaves_nothing_to_the_next(engine):
    run = engine.run(SlowSession(), tasks(50))
    first = next(event for event in run if isinstance(event, Placed))
    run.close()
    events = list(engine.run(SlowSession(0), tasks(20)))
    assert keys_of(events) == keys(20)
    assert first.pid not in {event.pid for event in events if isinstance(event, Placed)}


@pytest.mark.parametrize(
    ("moment", "politely", "hold"),
    [
        pytest.param(1, True, 0, marks=pytest.mark.slow),
        (40, True, 0),
        (30, False, 8),
    ],
)
def test_machines_that_go_take_nobody_with_them(ray_cluster, moment, politely, hold):
    """``hold`` tasks are in a pool that is lost with the machine; one death would be a crash."""
    events, places = [], Counter[str]()
    options = RayOptions(tries=1)
    with ray_cluster.nodes(2) as nodes, RayEngine(ray_cluster.address, options) as engine:
        for event in engine.run(SlowSession(0.03, hold), tasks(120)):
            events.append(event)
            if isinstance(event, Placed):
                places[event.node] += 1
            if places.total() == moment and nodes:
                ray_cluster.remove(nodes.pop(), politely=politely)
    assert keys_of(events) == keys(120)
    assert not crashes(events)
    assert len(places) == 2 or moment == 1


def test_a_machine_that_comes_is_used(ray_cluster):
    places = Counter[str]()
    with ray_cluster.nodes() as nodes, RayEngine(ray_cluster.address) as engine:
        for event in engine.run(SlowSession(), tasks(250)):
            if isinstance(event, Placed):
                places[event.node] += 1
            if not nodes:
                nodes.append(ray_cluster.add(2))
    assert places.total() == 250
    assert len(places) == 2
    assert min(places.values()) > 20


def test_big_results_pass_a_small_object_store(ray_cluster):
    """200 MB through a store of 80, from workers that hold 4 MiB and one result each."""
    with RayEngine(ray_cluster.address) as engine:
        assert _sizes(engine, 6 << 20, 30) == [6 << 20] * 30
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert _sizes(engine, 6 << 20, 30) == [6 << 20] * 30
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KB


def _sizes(engine: RayEngine, size: int, count: int) -> list[int]:
    events = engine.run(BigSession(size), tasks(count))
    return [len(event.load) for event in events if isinstance(event, Big)]


def test_machines_with_other_software_are_refused(engine, monkeypatch):
    ours = ray_staff.software()
    assert {"python", "jatsr", "numpy", "torch", "stage decode"} <= ours.keys()
    monkeypatch.setattr(ray_staff, "software", lambda: {**ours, "numpy": "1.0"})
    with pytest.raises(EnvironmentFailure, match=rf"numpy: here 1.0, there {ours['numpy']}"):
        list(engine.run(EchoSession(), tasks(3)))


def test_gpus_are_shared_and_bound_the_number_of_workers():
    assert RayOptions(device="cpu").gpus == 0
    assert RayOptions(device="cuda").gpus == 0.25
    assert RayOptions(device="cuda", gpus_per_actor=0.5).gpus == 0.5
    node = Node("id", "10.0.0.1", cpus=12, gpus=2)
    assert [node.holds(1, share) for share in (0, 0.1, 0.25, 1, 4)] == [12, 12, 8, 2, 0]
    assert node.holds(0.1, 0) == 120
    assert node.holds(5, 0.25) == 2


def test_a_cluster_without_room_is_reported(ray_cluster):
    options = RayOptions(cpus_per_actor=64, gpus_per_actor=2, wait_seconds=1)
    with (
        RayEngine(ray_cluster.address, options) as engine,
        pytest.raises(EnvironmentFailure, match=r"asks for 64 CPUs and 2 GPUs.* has 2 and 0"),
    ):
        list(engine.run(EchoSession(), tasks(3)))


def test_addresses(monkeypatch):
    began = time.monotonic()
    for address, found in [
        ("ray://10.0.0.1:10001", "inside the cluster"),
        ("127.0.0.1:1", "nothing that listens"),
        ("somewhere", "HOST:PORT"),
    ]:
        with pytest.raises(ConfigError, match=f"--ray-address {address}.*{found}") as caught:
            RayEngine(address).__enter__()
        assert caught.value.hint
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS 127.0.0.1:1"):
        RayEngine().__enter__()
    assert time.monotonic() - began < 5
    assert not ray.is_initialized()


PRIVATE = """
import os, signal, sys
from pipeline.engines import ray_cluster
from pipeline.engines.echo import EchoTask
from pipeline.engines.ray import RayEngine
from pipeline.engines.ray_cluster import Node
from pipeline.engines.ray_options import RayOptions
from pipeline.engines.ray_worker import OUTBOX_BYTES, Reply, Worker
from sessions import Placed, SlowSession

ray_cluster._LOST_SECONDS = 1
how, events = sys.argv[1], []
before = signal.getsignal(signal.SIGTERM), dict(os.environ)
with RayEngine(options=RayOptions(actors=3)) as engine:
    session = SlowSession(0.3 if how == "gcs" else 0.03)
    for event in engine.run(session, [EchoTask(str(i)) for i in range(200)]):
        events.append(event)
        if how == "error" and len(events) == 20:
            raise ZeroDivisionError
        if how == "interrupt" and len(events) == 20:
            os.kill(os.getpid(), signal.SIGINT)
        if how == "kill" and len(events) == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "gcs" and len(events) == 20:
            node = ray_cluster.ray._private.worker._global_node
            node.all_processes["gcs_server"][0].process.kill()
        if how == "worker" and len(events) == 20:
            os.kill(next(e.pid for e in events if isinstance(e, Placed)), signal.SIGKILL)
assert before == (signal.getsignal(signal.SIGTERM), dict(os.environ))
"""


@pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param("worker", "", marks=pytest.mark.slow),
        pytest.param("error", "ZeroDivisionError", marks=pytest.mark.slow),
        ("interrupt", "KeyboardInterrupt"),
        pytest.param("kill", "", marks=pytest.mark.slow),
        pytest.param("gcs", "EnvironmentFailure", marks=pytest.mark.slow),
    ],
)
def test_a_private_ray_goes_with_its_process(how, message):
    """Nothing on standard output; no process and no file is left, here or in the home."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:  # sockets: a short path
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {
            **{name: value for name, value in os.environ.items() if "RAY" not in name},
            "PYTHONPATH": paths,
            "TMPDIR": folder,
            "HOME": folder,
        }
        done = subprocess.run(
            [sys.executable, "-c", PRIVATE, how], env=environment, capture_output=True, text=True
        )
        left = os.listdir(folder)
        # after a SIGKILL its processes end each other
        wait_until_gone(lambda: _processes(folder), 10)
    assert done.stdout == ""
    assert message in done.stderr if message else not done.stderr
    assert left == [] or how == "kill"
    assert done.returncode == {"worker": 0, "kill": -signal.SIGKILL}.get(how, done.returncode)


def _processes(folder: str) -> set[str]:
    """Those whose TMPDIR is the folder; agents of a killed Ray look for it a minute longer."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={folder}\0".encode() in (process / "environ").read_bytes():
                found.add((process / "cmdline").read_text().rstrip("\0"))
    return {name for name in found if not name.endswith("Agent")}


def test_only_its_own_modules_import_ray():
    pattern = re.compile(r"^\s*(import|from) ray\b", re.MULTILINE)
    files = [
        f
        for top in ("pipeline", "shards", "jatsr_model", "jatsr_data")
        for f in (ROOT / top).rglob("*.py")
    ]
    importing = {f.relative_to(ROOT).as_posix() for f in files if pattern.search(f.read_text())}
    assert importing
    assert all(Path(f).match("pipeline/engines/ray*.py") for f in importing)
    code = "import sys, pipeline.engines.local, pipeline.execution; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class Asked:
    """Stands for an actor: remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []

    def __getattr__(self, name: str) -> SimpleNamespace:
        def remote(*args: object, **options: object) -> object:
            self.calls.append((name, args, options))
            return object()

        return SimpleNamespace(remote=remote)


@pytest.fixture
def staff(monkeypatch) -> Staff:
    """Without a Ray; who is hired stands for an actor that there is no room for yet."""

    def hire(pool: Pool, node: str = "", *, suspect: bool = False) -> None:
        pool.hands.append(Hand(Asked(), call=object(), asked=time.monotonic(), suspect=suspect))

    monkeypatch.setattr(Pool, "hire", hire)
    monkeypatch.setattr(Pool, "dismiss", lambda pool, hand: pool.hands.remove(hand))
    cluster = SimpleNamespace(nodes=lambda: [Node("a", "10.0.0.1", cpus=2, gpus=0)], address="")
    return Staff(cluster, RayOptions())


def test_idle_actors_do_not_wait_for_those_without_room(staff):
    idle = Hand(Asked(), node="a")
    staff.pool.hands.append(idle)
    staff.pool.hire()
    staff.assign(Job(0, b"", Dispatch(tasks(1), 3)))
    assert [name for name, _, _ in idle.actor.calls] == ["start", "exchange"]


@pytest.mark.parametrize(("seconds", "moved"), [(1, False), (1000, True)])
def test_a_suspect_without_room_is_tried_in_the_place_of_an_idle_actor(staff, seconds, moved):
    dispatch, pool = Dispatch(tasks(1), 3), staff.pool
    dispatch.deal("a worker")
    dispatch.pull("a worker", 1)
    dispatch.lose("a worker", blame=True)
    idle = Hand(Asked(), node="a")
    waiting = Hand(Asked(), call=object(), asked=time.monotonic() - seconds, suspect=True)
    pool.hands += [idle, waiting]
    staff.assign(Job(0, b"", dispatch))
    assert (idle not in pool.hands, waiting not in pool.hands) == (moved, moved)
    assert sum(hand.suspect for hand in pool.hands) == 1


def test_an_actor_told_of_the_end_gets_nothing_more(staff):
    """It would leave that in its inbox: its session has stopped asking for tasks."""
    dispatch, hand = Dispatch(tasks(4), 3), Hand(Asked(), node="a", job=0)
    staff.pool.hands.append(hand)
    dispatch.deal("another worker", 4)
    run = ray_run.RayRun(Job(0, b"", dispatch), staff, staff._cluster, RayOptions())
    list(run._take(hand, Reply([], 0, hungry=True, over=False, silent=0, failure=None)))
    dispatch.lose("another worker", blame=False)
    list(run._take(hand, Reply([], 0, hungry=False, over=False, silent=0, failure=None)))
    assert hand.actor.calls == [("exchange", ([],), {"end": True})] * 2
    assert dispatch.queued == 4


@dataclass(frozen=True)
class ReportingSession:
    """One long task, of which it reports progress."""

    def open(self, report: Callable[[Progress], None]) -> Run:
        def run(_: Iterator[EchoTask]) -> Iterator[Partial]:
            for _ in range(25):
                time.sleep(0.1)
                report(Progress(1.0))
            yield Partial()

        return run


def test_progress_is_a_sign_of_life():
    worker = started(ReportingSession())
    replies = [worker.exchange([], end=False) for _ in range(2)]
    assert not replies[-1].over
    assert replies[-1].silent < 1.5


def started(session: object) -> Worker:
    worker = Worker()
    worker.start(1, pickle.dumps(session))
    return worker


def drained(worker: Worker, reply: Reply) -> Iterator[object]:
    """All events until the session is over, without more tasks."""
    while True:
        yield from map(pickle.loads, reply.events)
        if reply.over:
            return
        reply = worker.exchange([], end=True)


def test_a_worker_tells_what_it_takes_before_it_works_on_it():
    worker = started(SlowSession(SESSION_SECONDS))
    assert worker.exchange([], end=False).hungry
    reply = worker.exchange(tasks(3), end=False)
    assert (reply.pulled, reply.hungry, reply.over) == (1, False, False)


def test_a_worker_waits_when_its_outbox_is_full():
    worker = started(BigSession(1 << 20))
    assert worker.exchange([], end=False).hungry
    first = worker.exchange(tasks(50), end=True)
    deadline = time.monotonic() + SESSION_SECONDS
    while not worker._full and time.monotonic() < deadline:  # nobody asks for results
        time.sleep(0.01)
    full = worker.exchange([], end=True)
    assert 3 << 20 < sum(map(len, full.events)) <= OUTBOX_BYTES
    assert full.pulled < 10
    events = [*map(pickle.loads, first.events), *drained(worker, full)]
    assert keys_of(events) == keys(50)


def test_a_worker_passes_results_larger_than_its_outbox():
    worker = started(BigSession(2 * OUTBOX_BYTES))
    assert worker.exchange([], end=False).hungry
    events = drained(worker, worker.exchange(tasks(3), end=True))
    assert [len(e.load) for e in events if isinstance(e, Big)] == [2 * OUTBOX_BYTES] * 3


def test_a_worker_runs_its_session_again_without_opening_it():
    session = pickle.dumps(SlowSession(0, hold=5))
    worker = Worker()
    worker.start(1, session)
    first = list(drained(worker, worker.exchange(tasks(3), end=True)))
    worker.start(1, b"not read")
    again = list(drained(worker, worker.exchange(tasks(3), end=True)))
    assert keys_of(first) == keys_of(again) == keys(3)
    worker.start(2, b"not a session")
    reply = worker.exchange([], end=True)
    assert reply.over
    assert "UnpicklingError" in str(reply.failure)


def test_only_what_the_session_does_not_do_counts_as_silence():
    worker = started(HostileSession())
    assert worker.exchange([], end=False).silent == 0
    assert worker.exchange([EchoTask("hang")], end=False).silent < 0.5
    worker.exchange([], end=False)
    assert worker.exchange([], end=False).silent > 0.5
