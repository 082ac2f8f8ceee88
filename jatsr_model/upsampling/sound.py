"""What was measured of an input, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from jatsr_model.upsampling.bandwidth import Bandwidth
from jatsr_model.upsampling.inspection import Facts
from jatsr_model.upsampling.levels import InputGain, input_gain
from jatsr_model.upsampling.splice import Crossover, crossover_of
from shards.errors import TrackError

_RESAMPLED = 0.95  # of half a rate: there a resampler has taken away 3 dB


@dataclass(frozen=True)
class Sound:
    """What is known of an input before it is upsampled.

    Attributes:
        rate: Hz.
        channels: C.
        facts: what was measured.
        key: hash of the file, which the noise depends on.
    """

    rate: int
    channels: int
    facts: Facts
    key: str


def crossover(sound: Sound, rate: int, model_rate: int) -> Crossover | None:
    """Where the generated band begins; None if there is nothing to add.

    Args:
        sound: the input.
        rate: Hz, of the output.
        model_rate: Hz, of what the model makes.
    """
    found: Bandwidth = sound.facts.bandwidth
    if sound.rate != rate:
        solid = min(found.solid_hertz, _RESAMPLED * sound.rate / 2)
        found = replace(found, solid_hertz=solid)
    return crossover_of(found, min(rate, model_rate))


def gain_for(sound: Sound, target_lufs: float | None) -> InputGain:
    """The gain to the loudness of a channel that a model knows; 1 if that was never changed."""
    if target_lufs is None:
        return InputGain(1.0)
    loudness = sound.facts.loudness
    level = loudness.lufs - 10 * math.log10(sound.channels)
    return input_gain(level, loudness.peak, target_dbfs=target_lufs)


def expect_same(sound: Sound, samples: int) -> None:
    """Make sure that a file has not changed since it was measured.

    Raises:
        TrackError: it has.
    """
    if samples != sound.facts.samples:
        raise TrackError(
            f"expected {sound.facts.samples} samples as measured, found {samples}",
            hint="the file changed meanwhile; run the same command again",
            stage="decode",
        )
