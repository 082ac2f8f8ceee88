"""What a preset is: a network and the objective it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

from jatsr_model.dit.config import DiTConfig
from shards.errors import ConfigError

Space = Literal["dac-z", "dac-72", "mdct", "stable-audio"]

Prediction = Literal["x", "v", "envelope"]
"""Data, velocity, or log deviations of the data, which no path leads to: see ``envelopes``."""

FRAME_RATE = 44_100 / 512  # frames per second of DAC and of the embedded codec
MSE: Mapping[str, float] = MappingProxyType({"mse": 1.0})


class Claim(NamedTuple):
    """What a document says of a network."""

    quantity: Literal["parameters", "training-bytes"]
    value: float
    source: str
    seconds: float = 16.0  # of the crop, where memory is claimed


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A network with the objective it was made for.

    Args:
        name: for ``--model``.
        config: its shape.
        space: latents it works on: ``dac-z`` (1024 channels), ``dac-72`` (the nine 8-dimensional
            codes that span them), ``mdct``, or those of Stable Audio.
        about: one line.
        claims: what documents say of its size.
        frame_rate: latent frames per second.
        prediction: what the network predicts, ``x`` (data), ``v`` (velocity) or ``envelope``.
        times: law of t in training.
        losses: weights by name.
        condition_dropout: how often a condition is left out in training.
        published: whether it is somebody else's; only such have a legacy mode.
    """

    name: str
    config: DiTConfig
    space: Space
    about: str
    claims: tuple[Claim, ...] = ()
    frame_rate: float = FRAME_RATE
    prediction: Prediction = "x"
    times: str = "logit-normal"
    losses: Mapping[str, float] = field(default_factory=lambda: MSE)
    condition_dropout: float = 0.1
    published: bool = False

    def legacy(self) -> Preset:
        """The original function, defects included, for its checkpoints and for comparisons.

        Raises:
            ConfigError: there is no original.
        """
        if not self.published or self.space != "dac-z":
            raise ConfigError(
                f"{self.name} has no legacy mode",
                hint="the networks v1 to v3m2, whose latents are dac-z, have one",
            )
        return replace(self, config=replace(self.config, legacy=True, time_scale=1.0))
