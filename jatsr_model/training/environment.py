"""Which rank this process is, and which device it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from shards.errors import ConfigError

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """A rank among others; ``local_rank`` is that among those of this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def place_of(environ: Mapping[str, str]) -> Place:
    """What torchrun says in the environment; one process without.

    Raises:
        ConfigError: its variables are incomplete or not numbers.
    """
    if environ.get("WORLD_SIZE", "1") == "1":
        return Place()
    missing = [name for name in _VARIABLES if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"the environment has WORLD_SIZE, but not {', '.join(missing)}",
            hint="start with torchrun --nproc-per-node N, or unset WORLD_SIZE for one process",
        )
    try:
        rank, size, local_rank = (int(environ[name]) for name in _VARIABLES[:3])
    except ValueError as error:
        raise ConfigError(
            f"RANK, WORLD_SIZE and LOCAL_RANK: expected whole numbers, {error}",
            hint="start with torchrun, which sets them",
        ) from error
    return Place(rank, size, local_rank)


def device_of(wanted: str, place: Place) -> torch.device:
    """The device of a rank; a GPU also becomes the current one of this process.

    Args:
        wanted: ``cpu``, ``cuda``, ``cuda:1``; empty for the best there is.
        place: of several ranks, each takes the GPU of its local rank.

    Raises:
        ConfigError: there is no such device.
    """
    kind, colon, number = wanted.partition(":")
    numbered = kind == "cuda" and number.isdigit()
    if kind not in ("", "cpu", "cuda") or (colon and not numbered):
        raise ConfigError(
            f"--device {wanted}: there is no such device", hint="cpu, cuda, or a GPU such as cuda:1"
        )
    if kind == "cpu" or (not kind and not torch.cuda.is_available()):
        return torch.device("cpu")
    if numbered and place.size > 1:
        raise ConfigError(
            f"--device {wanted} cannot serve {place.size} ranks",
            hint="give --device cuda: every rank takes the GPU of its local rank",
        )
    index, found = int(number or place.local_rank), torch.cuda.device_count()
    if index >= found:
        raise ConfigError(
            f"--device {wanted or 'cuda'}: GPU {index} is wanted, torch sees {found}",
            hint="check `nvidia-smi`, start fewer ranks, or use --device cpu",
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
