"""From the layout of the original DAC checkpoints to that of transformers' ``DacModel``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_UNIT = {"0": "snake1", "1": "conv1", "2": "snake2", "3": "conv2"}
_ENCODER_TAIL = {"3": "snake1", "4": "conv1"}
_DECODER_HEAD = {"0": "snake1", "1": "conv_t1"}


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace ``g v / |v|`` pairs, in either spelling, by the plain weight they stand for.

    Args:
        state: tensors by name; ``X.weight_g``/``X.weight_v`` or
            ``X.parametrizations.weight.original0``/``original1``. Plain weights pass through.
    """
    import torch

    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        spelling = next((s for s in _SPELLINGS if key.endswith(s[0]) or key.endswith(s[1])), None)
        if spelling is None:
            plain[key] = value
        elif key.endswith(spelling[1]) and key.removesuffix(spelling[1]) + spelling[0] in state:
            stem = key.removesuffix(spelling[1])
            # torch's own kernel, so that the bits equal those of the unfolded network.
            plain[f"{stem}.weight"] = torch._weight_norm(value, state[stem + spelling[0]], 0)
        elif key.removesuffix(spelling[0]) + spelling[1] not in state:
            plain[key] = value  # half a pair: left for the strict load to report
    return plain


_SPELLINGS = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def to_transformers_name(key: str, stages: int) -> str:
    """Name of an original tensor in ``DacModel``; unknown names come back unchanged.

    Args:
        key: e.g. ``encoder.block.1.block.0.block.1.weight``, weight norm already folded.
        stages: number of down-sampling stages (4 at 44.1 kHz): what follows them is the tail.
    """
    for pattern, rename in _rules(stages):
        found = re.fullmatch(pattern, key)
        if found is not None:
            return rename(*found.groups()) or key
    return key


def _rules(stages: int) -> list[tuple[str, Callable[..., str | None]]]:
    tail = {0: "conv1", stages + 1: "snake1", stages + 2: "conv2"}

    def end(side: str, index: str, leaf: str) -> str | None:
        name = tail.get(int(index))
        return name and f"{side}.{name}.{leaf}"

    def encoder(block: str, unit: str, part: str, leaf: str) -> str:
        return f"encoder.block.{int(block) - 1}.res_unit{int(unit) + 1}.{_UNIT[part]}.{leaf}"

    def decoder(block: str, unit: str, part: str, leaf: str) -> str:
        return f"decoder.block.{int(block) - 1}.res_unit{int(unit) - 1}.{_UNIT[part]}.{leaf}"

    leaf = r"(weight|bias|alpha)"
    return [
        (rf"encoder\.block\.(\d+)\.block\.([0-2])\.block\.([0-3])\.{leaf}", encoder),
        (
            rf"encoder\.block\.(\d+)\.block\.([34])\.{leaf}",
            lambda b, i, x: f"encoder.block.{int(b) - 1}.{_ENCODER_TAIL[i]}.{x}",
        ),
        (rf"encoder\.block\.(\d+)\.{leaf}", lambda i, x: end("encoder", i, x)),
        (rf"decoder\.model\.(\d+)\.block\.([2-4])\.block\.([0-3])\.{leaf}", decoder),
        (
            rf"decoder\.model\.(\d+)\.block\.([01])\.{leaf}",
            lambda b, i, x: f"decoder.block.{int(b) - 1}.{_DECODER_HEAD[i]}.{x}",
        ),
        (rf"decoder\.model\.(\d+)\.{leaf}", lambda i, x: end("decoder", i, x)),
    ]


def to_transformers(state: Mapping[str, Tensor], stages: int) -> dict[str, Tensor]:
    """A whole original state dict, folded and renamed."""
    return {to_transformers_name(k, stages): v for k, v in fold_weight_norm(state).items()}
