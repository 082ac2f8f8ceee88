"""Who works: actors are hired where there is room, checked, replaced, and given suspects."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.engines.dispatch import Dispatch
from pipeline.engines.ray_cluster import Cluster
from pipeline.engines.ray_options import RayOptions
from pipeline.engines.ray_pool import Greeting, Hand, Pool
from pipeline.engines.software import software
from shards.errors import EnvironmentFailure

_FALSE_STARTS = 3


@dataclass(frozen=True, eq=False)
class Job:
    """One run: its number, its pickled session in Ray's store, its tasks."""

    number: int
    session: Any
    dispatch: Dispatch


class Staff:
    """Keeps a pool as large as there is room for and work to do.

    Args:
        cluster: where.
        options: how many, how large.
    """

    def __init__(self, cluster: Cluster, options: RayOptions) -> None:
        self.pool = Pool(options.cpus_per_actor, options.gpus)
        self._cluster = cluster
        self._options = options
        self._checked: set[str] = set()
        self._false_starts = 0
        self._attended = time.monotonic()

    @property
    def wanted(self) -> int:
        """How many hands there should be, work permitting."""
        if self._options.actors is not None:
            return self._options.actors
        cpus, gpus = self._options.cpus_per_actor, self._options.gpus
        # One where there is no room is what an autoscaler needs to see.
        return max(1, sum(node.holds(cpus, gpus) for node in self._cluster.nodes()))

    def begin(self) -> None:
        """A run begins."""
        self._attended = time.monotonic()
        self._false_starts = 0
        for hand in self.pool.hands:
            hand.suspect = False  # of a run that was given up

    def welcome(self, hand: Hand, answer: Greeting | Mapping[str, str]) -> None:
        """A new hand has said where it is, or what software is there.

        Raises:
            EnvironmentFailure: it is not the software of this process.
        """
        if isinstance(answer, Greeting):
            hand.node, hand.host = answer.node, answer.host
            if hand.node not in self._checked:
                hand.ask("software")
        elif differing := _differing(answer):
            self.pool.dismiss(hand)
            raise EnvironmentFailure(
                f"expected the same software on every machine, found on {hand.host}:\n{differing}",
                hint="equal bytes come from equal software: use the same image everywhere",
            )
        else:
            self._checked.add(hand.node)

    def assign(self, job: Job) -> None:
        """Give idle hands the session, hire where there is work that nobody is about to take.

        Raises:
            EnvironmentFailure: nobody could be hired for a long time.
        """
        hands, dispatch = self.pool.hands, job.dispatch
        starting = sum(bool(hand.node) for hand in hands if _coming(hand))
        for hand in hands:  # the idle do not wait for those that there is perhaps no room for
            if hand.idle and (hand.suspect or dispatch.queued > starting):
                self._start(hand, job)
                starting += 1
        coming = sum(map(_coming, hands))
        if self._false_starts < _FALSE_STARTS or not hands:
            for _ in range(min(dispatch.queued - coming, self.wanted - len(hands))):
                self.pool.hire()
        # Alone means that nothing else runs, on its machine or any other.
        if not dispatch.queued and dispatch.suspects and dispatch.held == self._held_alone(job):
            self._hire_for_suspects(dispatch)
        self._expect_attendance()

    def false_start(self, reason: str) -> None:
        """A hand died before it took a task.

        Raises:
            EnvironmentFailure: so it went again and again, and nobody else works.
        """
        self._false_starts += 1
        working = any(hand.pulled for hand in self.pool.hands)
        if self._false_starts >= _FALSE_STARTS and not working:
            raise EnvironmentFailure(
                f"workers could not start, {self._false_starts} times in a row: {reason}",
                hint="try --engine local --workers 0 to see the error; run jatsr doctor there",
            )

    def good_start(self) -> None:
        """A hand took tasks."""
        self._false_starts = 0

    def _start(self, hand: Hand, job: Job) -> None:
        if hand.job != job.number:
            hand.pulled = 0
        hand.job, hand.warm, hand.ending = job.number, False, False
        hand.actor.start.remote(job.number, job.session)
        hand.ask("exchange", [], end=False)

    def _held_alone(self, job: Job) -> int:
        return sum(job.dispatch.held_by(hand) for hand in self.pool.hands if hand.suspect)

    def _hire_for_suspects(self, dispatch: Dispatch) -> None:
        """A fresh hand for each suspect, one to a machine, in the place of an idle one."""
        late = time.monotonic() - self._options.wait_seconds
        for hand in [h for h in self.pool.hands if not h.node]:
            # It would be given the room that becomes free, or lost its own to somebody else.
            if not hand.suspect or hand.asked < late:
                self.pool.dismiss(hand)
        trying = [hand for hand in self.pool.hands if hand.suspect]
        waiting = max(0, dispatch.suspects - sum(not hand.warm for hand in trying))
        places = {h.node: h for h in self.pool.hands if h.idle and not h.suspect}
        for node in list(places.keys() - {hand.node for hand in trying})[:waiting]:
            self.pool.dismiss(places[node])
            self.pool.hire(node, suspect=True)
        if not self.pool.hands:
            self.pool.hire(suspect=True)

    def _expect_attendance(self) -> None:
        now, wait = time.monotonic(), self._options.wait_seconds
        if any(hand.node for hand in self.pool.hands):
            self._attended = now
        elif now - self._attended > wait:
            cpus, gpus = self._options.cpus_per_actor, self._options.gpus
            raise EnvironmentFailure(
                f"expected room for a worker, found none for {wait:.0f} s: a worker asks for "
                f"{cpus:g} CPUs and {gpus:g} GPUs; the Ray cluster at {self._cluster.address} has "
                + (", ".join(f"{n.cpus:g} and {n.gpus:g}" for n in self._cluster.nodes())),
                hint="ask for less with --cpu-per-task or --gpus-per-actor, add machines, or wait "
                "until other jobs are done",
            )


def _coming(hand: Hand) -> bool:
    """Whether a hand has yet to ask for its first task."""
    return not (hand.warm or hand.idle or hand.lost)


def _differing(theirs: Mapping[str, str]) -> str:
    """What is not as it is here, a line each."""
    ours = software()
    return "\n".join(
        f"  {name}: here {ours.get(name, 'none')}, there {theirs.get(name, 'none')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    )
