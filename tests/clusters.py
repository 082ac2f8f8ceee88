"""Ray clusters on this machine; nodes are processes."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# A process cannot go from a Ray with tokens, as private ones are, to one without, or back.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

_OBJECT_STORE = 80 << 20
# Machines that vanish are noticed within two seconds instead of fifteen.
_SYSTEM = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


class RayCluster:
    """A head with two CPUs, and nodes that come and go; their workers can import the tests."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets need a short path
        # The cluster's address is written here, where no Ray need have been before.
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        self._cluster = Cluster()
        self.add(2, include_dashboard=False, dashboard_port=None, _system_config=_SYSTEM)

    @property
    def address(self) -> str:
        """What ``--ray-address`` wants."""
        return str(self._cluster.address)

    def add(self, cpus: int, **options: Any) -> Any:
        """One more node."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves sockets to the collector
            node = self._cluster.add_node(
                num_cpus=cpus, object_store_memory=_OBJECT_STORE, temp_dir=self._folder, **options
            )
            gc.collect()
        return node

    def remove(self, node: Any, *, politely: bool = True) -> None:
        """Terminate a node's processes, or kill them."""
        self._cluster.remove_node(node, allow_graceful=politely)

    @contextmanager
    def nodes(self, *cpus: int) -> Iterator[list[Any]]:
        """More nodes for a while; those that are still there are removed."""
        added = [self.add(count) for count in cpus]
        try:
            yield added
        finally:
            for node in added:
                if node in self._cluster.worker_nodes:
                    self.remove(node)

    def close(self) -> None:
        """End everything."""
        for node in self._cluster.list_all_nodes():
            node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_cluster(object_storage: object) -> Iterator[RayCluster]:
    """One for all tests; its workers know the way to the object storage of the tests."""
    sigterm = signal.getsignal(signal.SIGTERM)  # nodes take it for themselves
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        cluster = RayCluster()
        yield cluster
        cluster.close()
    signal.signal(signal.SIGTERM, sigterm)
