"""The actors of a build: hired, asked one question at a time, dismissed."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.engines.ray_worker import Worker
from pipeline.engines.software import software
from pipeline.engines.worker import THREAD_VARIABLES


@dataclass(frozen=True)
class Greeting:
    """Where an actor runs."""

    node: str
    host: str


class _Actor(Worker):
    """``Worker`` as Ray knows it."""

    def greet(self) -> Greeting:
        """The first question."""
        return Greeting(ray.get_runtime_context().get_node_id(), socket.gethostname())

    def software(self) -> dict[str, str]:
        """See ``software``."""
        return software()


@dataclass(frozen=True)
class Lost:
    """Why an actor will not be asked again.

    Attributes:
        reason: for people.
        blame: whether its own work may have killed it, should its machine be alive ...
        due: ... at this time.
    """

    reason: str
    blame: bool
    due: float


@dataclass(eq=False)
class Hand:
    """What the driver knows of an actor.

    Attributes:
        actor: Ray's handle.
        call: the question that it has not answered yet; None: it is idle, or lost.
        asked: when that was.
        node: its machine; empty until it has greeted.
        host: the machine's name.
        job: the run whose session it has.
        warm: that session is open and has asked for tasks.
        ending: that session has been told that no more tasks will come.
        pulled: tasks that it has taken.
        suspect: it gets one suspect and nothing else.
        lost: set when it is dead or cannot be reached.
    """

    actor: Any
    call: Any = None
    asked: float = 0.0
    node: str = ""
    host: str = "an unknown machine"
    job: int = -1
    warm: bool = False
    ending: bool = False
    pulled: int = 0
    suspect: bool = False
    lost: Lost | None = None

    @property
    def idle(self) -> bool:
        """Whether it can be given a session."""
        return bool(self.node) and self.call is None and self.lost is None

    def ask(self, method: str, *args: Any, **options: Any) -> None:
        """Call a method; the answer comes from ``Pool.answers``."""
        self.call = getattr(self.actor, method).remote(*args, **options)
        self.asked = time.monotonic()


class Pool:
    """Actors, all alike.

    Args:
        cpus: of each; what it computes with is one thread in any case.
        gpus: of each; may be a fraction.
    """

    def __init__(self, cpus: float, gpus: float) -> None:
        self.hands: list[Hand] = []
        self._class = ray.remote(_Actor)
        self._options = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "enable_task_events": False,
            "runtime_env": {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")},
        }

    def hire(self, node: str = "", *, suspect: bool = False) -> None:
        """One more actor; on a certain machine if that can be."""
        where: Any = NodeAffinitySchedulingStrategy(node, soft=True) if node else "SPREAD"
        actor = self._class.options(**self._options, scheduling_strategy=where).remote()
        hand = Hand(actor, suspect=suspect)
        hand.ask("greet")
        self.hands.append(hand)

    def dismiss(self, hand: Hand) -> None:
        """End an actor, whatever it is doing."""
        self.hands.remove(hand)
        ray.kill(hand.actor)

    def answers(self, seconds: float) -> Iterator[tuple[Hand, Any]]:
        """Wait for answers; a hand with its answer, or with the ``RayError`` in place of one."""
        asked = {hand.call: hand for hand in self.hands if hand.call is not None}
        if not asked:
            time.sleep(seconds)
            return
        ready, rest = ray.wait(list(asked), num_returns=1, timeout=seconds)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        del rest
        for call in ready:
            hand = asked.pop(call)
            hand.call = None
            try:
                answer = ray.get(call)
            except ray.exceptions.RayError as error:
                answer = error
            yield hand, answer

    def close(self) -> None:
        """Dismiss everyone."""
        for hand in list(self.hands):
            self.dismiss(hand)
