"""Where a training stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Standing:
    """What a checkpoint keeps beside tensors and the loader's state.

    Attributes:
        step: steps taken or left out.
        left_out: of them, because gradients were not finite.
        in_row: of those, the last ones.
        seconds: of training, all its runs together.
        validated: step of the last validation; -1 for none.
        sampled: step at which audio was sampled last; 0 for never (nothing can be heard at 0).
        sample_error: of what was sampled then; see ``Rehearsal``; NaN for never.
        best: lowest validation loss.
        best_step: when; -1 for never.
    """

    step: int = 0
    left_out: int = 0
    in_row: int = 0
    seconds: float = 0.0
    validated: int = -1
    sampled: int = 0
    sample_error: float = math.nan
    best: float = math.inf
    best_step: int = -1

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint; what is not finite becomes null."""
        values = asdict(self)
        return {k: v if math.isfinite(v) else None for k, v in values.items()}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Standing:
        """From a checkpoint."""
        return Standing(**{k: v for k, v in document.items() if v is not None})
