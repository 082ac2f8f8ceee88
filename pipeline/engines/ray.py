"""Workers on Ray: on this machine or on a cluster, in both cases supervised from here."""

from __future__ import annotations

import contextlib
import itertools
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import ray

from pipeline.engines.base import Session
from pipeline.engines.dispatch import Dispatch
from pipeline.engines.ray_cluster import Cluster
from pipeline.engines.ray_options import RayOptions
from pipeline.engines.ray_run import RayRun
from pipeline.engines.ray_staff import Job, Staff


class RayEngine:
    """A pool of actors, kept for several runs; each runs whole sessions, fused.

    An actor that dies alone is replaced, and the task that it took last is the suspect: it is tried
    again at the end, in a fresh actor, when nothing else runs. An actor that dies with its machine
    is nobody's fault. In flight are, per actor, ``in_flight`` tasks that its session has not taken
    and ``OUTBOX_BYTES`` of results, or one result that is larger.

    Args:
        address: None: ``RAY_ADDRESS`` if that is set, else a private Ray on this machine;
            ``auto`` or ``HOST:PORT``: a cluster of which this machine is a part.
        options: how many actors, how large.
    """

    def __init__(self, address: str | None = None, options: RayOptions | None = None) -> None:
        self._address = address
        self._options = options or RayOptions()
        self._numbers = itertools.count()
        self._undo = contextlib.ExitStack()
        self._cluster: Cluster | None = None
        self._staff: Staff | None = None

    def __enter__(self) -> Self:
        """Connect, or start a private Ray.

        Raises:
            ConfigError: there is no Ray at the address.
            EnvironmentFailure: Ray does not start, or is of another version.
        """
        actors = self._options.actors
        cpus = None if actors is None else actors * self._options.cpus_per_actor
        with contextlib.ExitStack() as undo:
            cluster = undo.enter_context(contextlib.closing(Cluster(self._address, cpus)))
            if self._options.device == "auto":
                gpus = any(node.gpus for node in cluster.nodes())
                self._options = replace(self._options, device="cuda" if gpus else "cpu")
            self._staff = Staff(cluster, self._options)
            undo.callback(self._staff.pool.close)
            self._cluster = cluster
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the actors; disconnect, or end the private Ray and remove its files."""
        self._undo.close()

    def run(self, session: Session, tasks: Sequence[Any]) -> Iterator[Any]:
        """See ``Engine``; inside ``with`` only, one run at a time.

        Raises:
            EnvironmentFailure: also where no worker can be started, where machines differ in their
                software, and when the cluster is gone.
        """
        assert self._cluster is not None, "use it in a with statement"
        assert self._staff is not None
        pickled = ray.put(pickle.dumps(session, pickle.HIGHEST_PROTOCOL))
        job = Job(next(self._numbers), pickled, Dispatch(tasks, self._options.tries))
        yield from RayRun(job, self._staff, self._cluster, self._options).events()

    @property
    def device(self) -> str:
        """Where the codec's network runs, once that is decided."""
        return self._options.device

    @property
    def workers(self) -> int:
        """How many actors there will be, as the cluster is now."""
        assert self._staff is not None, "use it in a with statement"
        return self._staff.wanted

    def describe(self) -> str:
        """Address, machines and workers in one line."""
        assert self._cluster is not None, "use it in a with statement"
        assert self._staff is not None
        nodes = self._cluster.nodes()
        counts = [
            _count(len(nodes), "node"),
            _count(sum(node.cpus for node in nodes), "CPU"),
            _count(sum(node.gpus for node in nodes), "GPU"),
            _count(self._staff.wanted, "actor"),
        ]
        return f"Ray at {self._cluster.address}: {', '.join(counts)}"


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" + ("" if number == 1 else "s")
