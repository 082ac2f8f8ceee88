"""One run of a session on a staff of actors."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
import ray.exceptions

from pipeline.engines.base import Crashed, Partial, Progress
from pipeline.engines.ray_cluster import Cluster
from pipeline.engines.ray_options import RayOptions
from pipeline.engines.ray_pool import Hand, Lost
from pipeline.engines.ray_staff import Job, Staff
from pipeline.engines.ray_worker import Reply
from shards.errors import EnvironmentFailure

_DEATHS = (ray.exceptions.ActorDiedError, ray.exceptions.OutOfMemoryError)
_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 1.0  # from the death of an actor to the news that its machine has died
_UNREACHABLE_SECONDS = 30.0  # until Ray must have noticed that a machine has died; it takes 15
_CALL_SECONDS = 30.0  # an exchange takes one second, or as long as the session holds the GIL


class RayRun:
    """Deals the tasks of a job and hears what hands say.

    Args:
        job: what is to be done.
        staff: who does it.
        cluster: which machines are alive.
        options: bounds.
    """

    def __init__(self, job: Job, staff: Staff, cluster: Cluster, options: RayOptions) -> None:
        self._job = job
        self._dispatch = job.dispatch
        self._staff = staff
        self._hands = staff.pool.hands
        self._cluster = cluster
        self._options = options
        self._look = 0.0

    def events(self) -> Iterator[Any]:
        """See ``Engine.run``."""
        self._staff.begin()
        try:
            while self._dispatch.unfinished or any(map(self._engaged, self._hands)):
                if time.monotonic() >= self._look:
                    yield from self._look_around()
                for hand, answer in self._staff.pool.answers(_LOOK_SECONDS):
                    yield from self._hear(hand, answer)
        except BaseException:  # also GeneratorExit: what still runs is nobody's business any more
            for hand in [h for h in self._hands if h.job == self._job.number and not h.idle]:
                self._staff.pool.dismiss(hand)
            raise

    def _look_around(self) -> Iterator[Crashed]:
        """What need not be done with every answer, but soon after a change."""
        yield from self._bury()
        self._staff.assign(self._job)
        self._look = time.monotonic() + _LOOK_SECONDS

    def _engaged(self, hand: Hand) -> bool:
        """Whether a hand's session is at work; one that is being opened late is not waited for."""
        return hand.job == self._job.number and hand.warm and not hand.idle

    def _hear(self, hand: Hand, answer: Any) -> Iterator[Any]:
        if isinstance(answer, ray.exceptions.RayTaskError):
            self._staff.pool.dismiss(hand)
            raise EnvironmentFailure(
                f"a worker on {hand.host} failed: {answer}",
                hint="this is a defect in jatsr: please report it with this text",
            ) from answer
        if isinstance(answer, ray.exceptions.RayError):
            self._miss(hand, answer)
        elif hand.lost:  # it is there again, but an answer is lost
            hand.lost = replace(hand.lost, due=0.0)
        elif not isinstance(answer, Reply):
            self._staff.welcome(hand, answer)
        elif hand.job == self._job.number:
            yield from self._take(hand, answer)
        elif answer.failure:  # of an earlier run, which did not need it
            self._staff.pool.dismiss(hand)
        elif not answer.over:
            hand.ask("exchange", [], end=True)
        if hand.call is None:
            self._look = 0.0

    def _take(self, hand: Hand, reply: Reply) -> Iterator[Any]:
        """Deal first, so that the hand does not wait until the results have been looked at."""
        if reply.failure:
            self._staff.pool.dismiss(hand)
            raise reply.failure
        self._dispatch.pull(hand, reply.pulled)
        hand.pulled = reply.pulled
        hand.warm = hand.warm or reply.hungry or bool(hand.pulled)
        if hand.pulled:
            self._staff.good_start()
        results = [pickle.loads(event) for event in reply.events]  # noqa: S301  from our own actors
        counted = [
            event
            for event in results
            if isinstance(event, Progress | Partial) or self._dispatch.finish(hand, event.key)
        ]
        if reply.over:
            hand.suspect = False
        elif reply.silent > self._options.stall_seconds:
            self._stalled(hand)
        else:
            # Once told of the end it takes nothing more, whatever comes back to the queue.
            tasks = [] if hand.ending else self._share(hand, hungry=reply.hungry)
            hand.ending = hand.ending or (reply.hungry and not tasks)
            hand.ask("exchange", tasks, end=hand.ending)
        yield from counted

    def _share(self, hand: Hand, *, hungry: bool) -> list[Any]:
        """What a hand gets; less and less ahead as the end comes, so that all end together."""
        if hand.suspect:
            return [] if hand.pulled or not hungry else self._dispatch.deal_suspect(hand)
        warm = sum(other.warm for other in self._hands)
        ahead = min(self._options.in_flight, self._dispatch.queued // (2 * warm or 1))
        spare = ahead - self._dispatch.unpulled(hand)
        return self._dispatch.deal(hand, max(spare, 1 if hungry else 0))

    def _miss(self, hand: Hand, error: ray.exceptions.RayError) -> None:
        """A hand has died, or cannot be reached; which machines have died is known a bit later."""
        now = time.monotonic()
        if isinstance(error, _DEATHS) or not hand.node:
            hand.lost = Lost(_cause(error, hand.host), blame=True, due=now + _GRACE_SECONDS)
        elif hand.lost is None:
            hand.lost = Lost(str(error), blame=False, due=now + _UNREACHABLE_SECONDS)

    def _stalled(self, hand: Hand) -> None:
        reason = f"no sign of life for {self._options.stall_seconds:.0f} s on {hand.host}"
        hand.lost = Lost(reason, blame=True, due=0.0)

    def _bury(self) -> Iterator[Crashed]:
        """Take back what lost hands held, as soon as it is clear whether they are to blame."""
        now = time.monotonic()
        limit = self._options.stall_seconds + _CALL_SECONDS
        for hand in self._hands:
            late = hand.node and hand.call is not None and now - hand.asked > limit
            if late and not ray.wait([hand.call], timeout=0)[0]:
                self._stalled(hand)
        lost = [hand for hand in self._hands if hand.lost]
        alive = {node.id for node in self._cluster.nodes(fresh=bool(lost))}
        for hand in lost:
            assert hand.lost is not None
            gone = bool(hand.node) and hand.node not in alive
            if gone or now >= hand.lost.due:
                yield from self._give_up(hand, hand.lost.reason, blame=hand.lost.blame and not gone)
            elif not hand.lost.blame and hand.call is None and now - hand.asked > _GRACE_SECONDS:
                hand.ask("greet")  # if it has died alone, the answer says so

    def _give_up(self, hand: Hand, reason: str, *, blame: bool) -> Iterator[Crashed]:
        self._staff.pool.dismiss(hand)
        task = self._dispatch.lose(hand, blame=blame)
        if task is not None:
            yield Crashed(task, reason, self._options.tries)
        elif blame and not hand.pulled:
            self._staff.false_start(reason)


def _cause(error: ray.exceptions.RayError, host: str) -> str:
    """Ray's explanation without its general advice."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"the worker process on {host} was killed because memory ran out"
    text = str(error)
    found = re.search(r"Worker exit detail: (.*?)(?: Some common causes|$)", text, re.DOTALL)
    return f"the worker process on {host} died: {found[1] if found else text}"
