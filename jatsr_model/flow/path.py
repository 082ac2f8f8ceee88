"""The straight path ``z = (1 - t) noise + t data`` and what follows from it.

Its velocity is ``v = data - noise``, hence ``data = z + (1 - t) v`` and ``noise = z - t v``. From
predicted data, velocity and noise follow by dividing by ``1 - t``, which is kept above ``GUARD``:
up to there they are exact, as everything else is.
"""

from __future__ import annotations

from torch import Tensor

from jatsr_model.dit.recipe import Prediction

GUARD = 1e-4


def spread(t: Tensor, like: Tensor) -> Tensor:
    """``[B]`` -> ``[B, 1, ...]`` with as many dimensions as ``like``; single numbers pass."""
    return t if t.ndim == 0 else t.view(-1, *[1] * (like.ndim - 1))


def interpolate(noise: Tensor, data: Tensor, t: Tensor) -> Tensor:
    """The point of the path at t.

    Args:
        noise: ``[B, ...]``.
        data: of the same shape.
        t: ``[B]``, or a single number.
    """
    t = spread(t, data)
    return (1 - t) * noise + t * data


def to_velocity(kind: Prediction, predicted: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """Velocity of a prediction made at ``(z, t)``.

    Args:
        kind: what was predicted, ``x`` (data) or ``v`` (velocity).
        predicted: ``[B, ...]``.
        z: the point of the path, of the same shape.
        t: ``[B]``, or a single number.
    """
    if kind == "v":
        return predicted
    return (predicted - z) / (1 - spread(t, z)).clamp(min=GUARD)


def to_data(kind: Prediction, predicted: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """Data of a prediction; arguments as for ``to_velocity``. Exact."""
    return predicted if kind == "x" else z + (1 - spread(t, z)) * predicted


def to_noise(kind: Prediction, predicted: Tensor, z: Tensor, t: Tensor) -> Tensor:
    """Noise of a prediction; arguments as for ``to_velocity``. Exact for velocities."""
    if kind == "v":
        return z - spread(t, z) * predicted
    t = spread(t, z)
    return (z - t * predicted) / (1 - t).clamp(min=GUARD)


def target(kind: Prediction, noise: Tensor, data: Tensor) -> Tensor:
    """What a network should predict."""
    return data if kind == "x" else data - noise
