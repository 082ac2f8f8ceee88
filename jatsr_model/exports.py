"""Networks to be given away: what use needs, and nothing that only training does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from jatsr_model.model_folder import WEIGHTS, ModelError, load_network, read_card, save_state


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        parameters: how many.
        size: of the weights, bytes.
        sha256: of the weights.
    """

    folder: Path
    parameters: int
    size: int
    sha256: str


def export_network(source: Path, folder: Path, *, half: bool = True) -> Exported:
    """Copy a network into a new folder.

    Args:
        source: its folder.
        folder: that does not exist yet.
        half: weights as float16; they are float32 again when they are loaded.

    Raises:
        ModelError: there is no network, it is damaged, float16 cannot hold it, or the folder
            exists.
    """
    network, card = load_network(source)
    state = network.state_dict()
    if half:
        state = {name: _halved(name, tensor) for name, tensor in state.items()}
    save_state(folder, state, card)
    count = sum(tensor.numel() for tensor in state.values())
    return Exported(folder, count, (folder / WEIGHTS).stat().st_size, read_card(folder)[1])


def _halved(name: str, tensor: Tensor) -> Tensor:
    halved = tensor.half()
    if not halved.isfinite().all():
        raise ModelError(f"{name} has numbers beyond the range of float16", hint="use --full")
    return halved
