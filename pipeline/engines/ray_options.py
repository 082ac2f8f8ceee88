"""What can be said about workers on Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Workers on Ray.

    Attributes:
        actors: workers; None: as many as the machines hold that are there at the moment.
        cpus_per_actor: what a worker reserves; it computes with one thread in any case.
        gpus_per_actor: may be a fraction; None: none for the CPU, ``gpu_share`` for CUDA.
        gpu_share: of a GPU, where nothing is said.
        device: where the codec's network runs; auto: CUDA if a machine has a GPU.
        in_flight: tasks that a worker holds and its session has not taken yet. Those that it has
            taken are not bounded, since it pools windows of several tracks.
        stall_seconds: a worker whose session does nothing for so long is taken for dead.
        wait_seconds: for the first worker to start, before giving up.
        tries: how often a task may kill its worker, but for the first time alone.
    """

    actors: int | None = None
    cpus_per_actor: float = 1.0
    gpus_per_actor: float | None = None
    gpu_share: float = 0.25
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    in_flight: int = 4
    stall_seconds: float = 1800.0
    wait_seconds: float = 120.0
    tries: int = 3

    @property
    def gpus(self) -> float:
        """Share of a GPU that a worker reserves."""
        if self.gpus_per_actor is not None:
            return self.gpus_per_actor
        return self.gpu_share if self.device == "cuda" else 0.0
