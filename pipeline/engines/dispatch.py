"""Who holds which task, and what becomes of tasks whose worker dies; no processes here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Hand:
    """What one worker holds: key -> (number of the deal, task), in the order of dealing."""

    alone: bool = False
    dealt: int = 0
    pulled: int = 0
    held: dict[str, tuple[int, Any]] = field(default_factory=dict)


class Dispatch:
    """Deals tasks; every task ends once, in ``finish`` or as what ``lose`` returns.

    A worker that dies gives back what it held. If it is to blame for its death, the task that it
    pulled last is the suspect: it is not queued again but kept to be tried alone. A task that was
    the suspect ``tries`` times is given up.

    Args:
        tasks: each with a ``key`` of its own.
        tries: deaths that a task may be blamed for.
    """

    def __init__(self, tasks: Iterable[Any], tries: int) -> None:
        self._queue = deque(tasks)
        self._suspects = deque[Any]()
        self._hands: dict[Hashable, _Hand] = {}
        self._deaths = Counter[str]()
        self._tries = tries
        self._held = 0

    @property
    def queued(self) -> int:
        """Tasks that any worker may take."""
        return len(self._queue)

    @property
    def suspects(self) -> int:
        """Tasks that wait for a worker of their own."""
        return len(self._suspects)

    @property
    def held(self) -> int:
        """Tasks that workers hold."""
        return self._held

    @property
    def unfinished(self) -> int:
        """Tasks that have not ended."""
        return len(self._queue) + len(self._suspects) + self._held

    def held_by(self, worker: Hashable) -> int:
        """Tasks that this worker holds."""
        return len(self._hands[worker].held) if worker in self._hands else 0

    def unpulled(self, worker: Hashable) -> int:
        """Tasks that were dealt to a worker and that its session has not taken yet."""
        hand = self._hands.get(worker)
        return hand.dealt - hand.pulled if hand else 0

    def deal(self, worker: Hashable, count: int = 1) -> list[Any]:
        """Up to ``count`` tasks from the queue."""
        taken = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        return self._hold(worker, taken, alone=False)

    def deal_suspect(self, worker: Hashable) -> list[Any]:
        """One suspect, if there is any; the worker must get nothing else."""
        taken = [self._suspects.popleft()] if self._suspects else []
        return self._hold(worker, taken, alone=True)

    def pull(self, worker: Hashable, total: int) -> None:
        """The worker's session has taken ``total`` of the tasks dealt to it, in their order."""
        if hand := self._hands.get(worker):
            hand.pulled = total

    def finish(self, worker: Hashable, key: str) -> bool:
        """Whether a result counts: the worker held the task."""
        hand = self._hands.get(worker)
        if hand is None or hand.held.pop(key, None) is None:
            return False
        self._held -= 1
        return True

    def lose(self, worker: Hashable, *, blame: bool) -> Any | None:
        """Take back what a worker held; the task that is given up, if there is one.

        Args:
            worker: it will do nothing more.
            blame: whether its own work may have killed it.
        """
        hand = self._hands.pop(worker, _Hand())
        self._held -= len(hand.held)
        begun = [task for number, task in hand.held.values() if number < hand.pulled]
        suspect = begun[-1] if begun and blame else None
        back = self._suspects if hand.alone else self._queue
        back.extendleft(task for _, task in reversed(hand.held.values()) if task is not suspect)
        if suspect is None:
            return None
        self._deaths[suspect.key] += 1
        if self._deaths[suspect.key] >= self._tries:
            return suspect
        self._suspects.append(suspect)
        return None

    def _hold(self, worker: Hashable, tasks: list[Any], *, alone: bool) -> list[Any]:
        hand = self._hands.setdefault(worker, _Hand())
        if tasks:
            hand.alone = alone
        for task in tasks:
            hand.held[task.key] = (hand.dealt, task)
            hand.dealt += 1
        self._held += len(tasks)
        return tasks
