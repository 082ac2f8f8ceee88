"""Learning rates: pure functions of the step, so that a resumed training needs no state."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from shards.errors import ConfigError

# "InverseLR" of stable-audio-tools, with the constants of SAGA-SR
INVERSE_GAMMA, INVERSE_POWER, INVERSE_WARMUP = 1e6, 0.5, 0.99


def schedule(
    name: str, lr: float, warmup: int, steps: int, floor: float = 0.0
) -> Callable[[int], float]:
    """The learning rate of every step, from step 0.

    * ``cosine``: rises in equal parts from ``lr / warmup`` at step 0 to ``lr`` at step
      ``warmup - 1``, then falls like half a cosine to ``floor * lr`` at step ``steps - 1``.
    * ``constant``: rises likewise and stays.
    * ``inverse``: ``lr (1 - 0.99^(s + 1)) / sqrt(1 + s / 1e6)``. Its warm-up is a part of it (90 %
      at step 230), so that ``warmup`` is not used.

    Args:
        name: one of these.
        lr: the highest rate.
        warmup: steps; 0 and 1 both begin at ``lr``.
        steps: of the whole training; later ones are like the last.
        floor: share of ``lr`` at the end of a cosine.

    Returns:
        Function of the step, above 0 at every step but perhaps the last.

    Raises:
        ConfigError: the values do not fit together.
    """
    if name == "inverse":
        return partial(_inverse, lr)
    if name == "constant":
        return partial(_constant, lr, warmup)
    if name != "cosine":
        raise ConfigError(
            f"--schedule {name}: there is no such schedule",
            hint="one of cosine, constant, inverse",
        )
    if warmup >= steps > 1:
        raise ConfigError(
            f"--warmup {warmup} leaves none of {steps} steps to --schedule cosine",
            hint="lower --warmup, raise --steps, or use --schedule constant",
        )
    return partial(_cosine, lr, warmup, steps, floor)


def _constant(lr: float, warmup: int, step: int) -> float:
    return lr * (step + 1) / warmup if step < warmup else lr


def _cosine(lr: float, warmup: int, steps: int, floor: float, step: int) -> float:
    top = max(warmup - 1, 0)  # the step that has ``lr``
    if step < top:
        return _constant(lr, warmup, step)
    share = (min(step, steps - 1) - top) / max(steps - 1 - top, 1)
    return lr * (floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2)


def _inverse(lr: float, step: int) -> float:
    risen: float = 1 - INVERSE_WARMUP ** (step + 1)
    fallen: float = (1 + step / INVERSE_GAMMA) ** -INVERSE_POWER
    return lr * risen * fallen
