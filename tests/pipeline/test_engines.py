"""Engines: every task ends once, whatever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from helpers import wait_until_gone
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import HostileSession, StillbornSession

from pipeline.engines import local, worker
from pipeline.engines.base import Crashed, Progress, Run
from pipeline.engines.dispatch import Dispatch
from pipeline.engines.echo import EchoSession, EchoTask
from pipeline.engines.inline import InlineEngine
from pipeline.engines.local import LocalEngine
from shards.errors import EnvironmentFailure


def keys_of(events: list[object]) -> list[str]:
    return [e.key for e in events if isinstance(e, EchoTask)]


@pytest.mark.parametrize("engine", [InlineEngine(), LocalEngine(1), LocalEngine(3)])
def test_one_result_per_task(engine):
    events = list(engine.run(EchoSession(), [EchoTask(str(i)) for i in range(7)]))
    assert sorted(keys_of(events)) == [str(i) for i in range(7)]
    assert sum(e.audio_seconds for e in events if isinstance(e, Progress)) == 7


def test_a_poisoned_task_costs_only_itself():
    tasks = [EchoTask(k) for k in ("a", "b", "segfault", "c", "d", "segfault2", "e")]
    events = list(LocalEngine(2).run(HostileSession(), tasks))
    assert sorted(keys_of(events)) == ["a", "b", "c", "d", "e"]
    crashed = {e.task.key: e.reason for e in events if isinstance(e, Crashed)}
    assert set(crashed) == {"segfault", "segfault2"}
    assert all("SIGSEGV" in reason for reason in crashed.values())


def test_a_worker_killed_once_costs_nothing(tmp_path):
    tasks = [EchoTask(k) for k in ("a", "b", str(tmp_path / "once"), "c")]
    events = list(LocalEngine(1).run(HostileSession(), tasks))
    assert len(keys_of(events)) == 4
    assert not any(isinstance(e, Crashed) for e in events)


def test_a_hanging_task_is_ended():
    events = list(LocalEngine(1, stall_seconds=3).run(HostileSession(), [EchoTask("hang")]))
    (crash,) = [e for e in events if isinstance(e, Crashed)]
    assert "no sign of life" in crash.reason


def test_defects_and_machine_failures_stop_the_run():
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError"):
        list(LocalEngine(1).run(HostileSession(), [EchoTask("bug")]))
    with pytest.raises(EnvironmentFailure, match="disk full"):
        list(LocalEngine(1).run(HostileSession(), [EchoTask("full")]))


@dataclass(frozen=True)
class RefusedSession:
    """Cannot reach what it needs."""

    error: type[Exception]

    def open(self, report: Callable[[Progress], None]) -> Run:
        raise self.error("what the session needs")


@pytest.mark.parametrize("error", [ConnectionRefusedError, EOFError])
def test_a_session_without_a_connection_is_no_worker_without_a_supervisor(error):
    ours, theirs = multiprocessing.Pipe()
    ours.send(RefusedSession(error))
    old = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        for variable in worker.THREAD_VARIABLES:
            patch.setenv(variable, "1")
        worker.main(theirs)
    theirs.close()
    signal.signal(signal.SIGINT, old)
    kind, failure = ours.recv()
    assert kind == "fatal"
    assert f"{error.__name__}: what the session needs" in str(failure)


def test_a_worker_that_dies_in_the_middle_of_a_message_is_dead():
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"only this")
    theirs.close()
    assert local._hear(SimpleNamespace(connection=ours), Dispatch([], 2)) == ("dead", "")


def test_workers_that_cannot_start_are_reported():
    with pytest.raises(EnvironmentFailure, match="could not start"):
        list(LocalEngine(2).run(StillbornSession(), [EchoTask("a"), EchoTask("b")]))


def test_workers_do_not_outlive_a_killed_supervisor(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, sys, time
            from pipeline.engines import worker
            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                ours, theirs = context.Pipe()
                process = context.Process(target=worker.main, args=(theirs,))
                process.start()
                print(process.pid, flush=True)
                time.sleep(60)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    ) as main:
        assert main.stdout is not None
        pid = int(main.stdout.readline())
        time.sleep(2)
        main.kill()
        main.wait()
    wait_until_gone(lambda: os.path.exists(f"/proc/{pid}"), 10)


@dataclass(eq=False)
class Hand:
    """A worker in theory: what it was dealt, in order, and how far it is."""

    dealt: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    pulled: int = 0
    alone: bool = False

    @property
    def begun(self) -> list[str]:
        return [key for key in self.dealt[: self.pulled] if key not in self.done]


STEPS = st.tuples(
    st.sampled_from(["deal", "deal alone", "pull", "finish", "die", "die with the machine"]),
    st.integers(0, 1),
    st.integers(1, 3),
)


@given(count=st.integers(0, 8), tries=st.integers(1, 3), steps=st.lists(STEPS, min_size=20))
@settings(max_examples=300)
def test_dispatched_tasks_end_once_whatever_dies(count, tries, steps):
    dispatch = Dispatch([EchoTask(str(i)) for i in range(count)], tries)
    ended, blamed = [], Counter[str]()
    hands = [Hand(), Hand()]

    def finish(hand: Hand, key: str) -> None:
        assert dispatch.finish(hand, key)
        assert not dispatch.finish(hand, key)
        hand.done.add(key)
        ended.append(key)

    def die(place: int, *, blame: bool) -> None:
        hand, hands[place] = hands[place], Hand()
        lost = dispatch.lose(hand, blame=blame)
        blamed.update(hand.begun[-1:] if blame else [])
        if lost is not None:
            assert (lost.key, blamed[lost.key]) == (hand.begun[-1], tries)
            ended.append(lost.key)
        assert not any(dispatch.finish(hand, key) for key in hand.dealt)

    for step, place, number in steps:
        hand = hands[place]
        if step == "deal" and not hand.alone:
            hand.dealt += (new := [task.key for task in dispatch.deal(hand, number)])
            assert not any(blamed[key] for key in new)
        elif step == "deal alone" and not hand.dealt:
            hand.dealt += [task.key for task in dispatch.deal_suspect(hand)]
            hand.alone = True
        elif step == "pull":
            hand.pulled = min(len(hand.dealt), hand.pulled + number)
            dispatch.pull(hand, hand.pulled)
        elif step == "finish" and hand.begun:
            finish(hand, hand.begun[number % len(hand.begun)])
        elif step.startswith("die"):
            die(place, blame=step == "die")
        assert dispatch.unfinished == count - len(ended)
        assert dispatch.held == sum(dispatch.held_by(hand) for hand in hands)

    for place in range(2):
        die(place, blame=False)
    while rest := dispatch.deal(hands[0]) or dispatch.deal_suspect(hands[1]):
        finish(hands[0] if dispatch.held_by(hands[0]) else hands[1], rest[0].key)
    assert sorted(ended) == sorted(str(i) for i in range(count))
