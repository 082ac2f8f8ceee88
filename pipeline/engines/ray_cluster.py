"""This process's connection to Ray: to a cluster, or to a private one that goes with it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray
import ray.exceptions

from pipeline.engines import ray_private
from shards.errors import ConfigError, EnvironmentFailure

_CONNECT_SECONDS = 3.0
_FRESH_SECONDS = 2.0
_LOST_SECONDS = 20.0  # Ray itself ends this process after 60
_START = "start a cluster with: ray start --head; without --ray-address this machine is used"


@dataclass(frozen=True)
class Node:
    """A live machine of the cluster."""

    id: str
    address: str
    cpus: float
    gpus: float

    def holds(self, cpus: float, gpus: float) -> int:
        """Workers that fit, if nothing else runs there."""
        by_cpu = math.floor(self.cpus / cpus + 1e-6) if cpus else math.inf
        by_gpu = math.floor(self.gpus / gpus + 1e-6) if gpus else math.inf
        return int(min(by_cpu, by_gpu, 10_000))


class Cluster:
    """A connection to Ray.

    Args:
        address: None: ``RAY_ADDRESS`` if that is set, else a private Ray on this machine, which
            ``close`` ends; ``auto`` or ``HOST:PORT``: a cluster that runs. A connection that this
            process has already is used as it is.
        cpus: of a private Ray; None: as many as there are cores.

    Raises:
        ConfigError: there is no Ray at the address.
        EnvironmentFailure: Ray does not start, or is of another version.
    """

    def __init__(self, address: str | None, cpus: float | None) -> None:
        self._nodes: list[Node] = []
        self._asked = 0.0
        self._lost_since: float | None = None
        with contextlib.ExitStack() as undo:
            self.private = _join(address, cpus, undo)
            context = ray.get_runtime_context()
            self.address: str = context.gcs_address
            self._own_node: str = context.get_node_id()
            self.nodes(fresh=True)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Disconnect; end a private Ray and remove its files."""
        self._undo.close()

    def nodes(self, *, fresh: bool = False) -> list[Node]:
        """The live machines, as they were a few seconds ago at most.

        Args:
            fresh: ask again now.

        Raises:
            EnvironmentFailure: the cluster, or its node on this machine, is gone.
        """
        now = time.monotonic()
        if not fresh and now - self._asked < _FRESH_SECONDS:
            return self._nodes
        self._asked = now
        # While the head is away ``ray.nodes`` would hang, and at last end the process.
        if _listens(self.address):
            self._lost_since = None
            self._nodes = [_node(entry) for entry in ray.nodes() if entry["Alive"]]
            if all(node.id != self._own_node for node in self._nodes):
                raise _gone("the Ray node of this machine has stopped")
        elif self._lost_since is None:
            self._lost_since = now
        elif now - self._lost_since > _LOST_SECONDS:
            raise _gone(f"the head of the Ray cluster at {self.address} has stopped to answer")
        return self._nodes


def _join(address: str | None, cpus: float | None, undo: contextlib.ExitStack) -> bool:
    """Make sure of a connection; whether it is to a private Ray."""
    if ray.is_initialized():
        return False
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    undo.enter_context(ray_private.process_as_it_was())
    if where == "local":
        folder = undo.enter_context(ray_private.temporary_folder())
        undo.callback(ray.shutdown, wait_for_processes=True)
        with ray_private.keep_sigterm():
            ray_private.start(folder, cpus)
        return True
    undo.callback(ray.shutdown)
    with ray_private.keep_sigterm():
        _connect(where, "--ray-address" if address else "RAY_ADDRESS")
    return False


def _connect(address: str, source: str) -> None:
    if "://" in address:
        raise ConfigError(
            f"{source} {address}: expected auto or HOST:PORT, since the build must be started "
            "inside the cluster",
            hint="start it on one of the cluster's machines, or with: "
            "ray job submit -- jatsr build ... --ray-address auto",
        )
    if address != "auto" and not _listens(address, source):
        raise ConfigError(
            f"{source} {address}: expected a Ray cluster, found nothing that listens there",
            hint=_START,
        )
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"{source} {address}: expected a Ray cluster, found: {error}", hint=_START
        ) from error
    except (RuntimeError, ray.exceptions.RayError) as error:  # versions, authentication
        raise EnvironmentFailure(
            f"{source} {address}: expected to connect to Ray, found: {error}",
            hint="the cluster and jatsr need the same versions of Ray and Python",
        ) from error


def _listens(address: str, source: str = "--ray-address") -> bool:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"{source} {address}: expected auto or HOST:PORT", hint=_START)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            return True
    except (OSError, OverflowError):
        return False


def _gone(what: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        what, hint="when the cluster is back run the same command again: it continues"
    )


def _node(entry: Mapping[str, object]) -> Node:
    resources = entry["Resources"]
    assert isinstance(resources, Mapping)
    address = str(entry["NodeManagerAddress"])
    return Node(str(entry["NodeID"]), address, resources.get("CPU", 0.0), resources.get("GPU", 0.0))
