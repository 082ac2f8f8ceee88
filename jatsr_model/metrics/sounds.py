"""Audio to be measured, as it is in its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.decode import open_audio
from shards.files import machine_errors, printable

INPUT = "input"  # the candidate that is the low-res audio, not processed
_DEPTHS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


@dataclass(frozen=True, eq=False)
class Sound:
    """One signal.

    Attributes:
        wave: float32 ``[channels, samples]``.
        rate: Hz.
        coding: how it is stored, such as ``PCM_16``; what is made in memory is ``FLOAT``.
    """

    wave: NDArray[np.float32]
    rate: int
    coding: str = "FLOAT"

    @property
    def depth(self) -> int | None:
        """Bits of a sample where they are whole numbers, else None."""
        return _DEPTHS.get(self.coding)

    @property
    def facts(self) -> dict[str, object]:
        """For JSON."""
        channels, samples = self.wave.shape
        return {
            "rate": self.rate,
            "channels": channels,
            "samples": samples,
            "seconds": samples / self.rate,
            "coding": self.coding,
        }


@dataclass(frozen=True, eq=False)
class Case:
    """What is compared with one reference.

    Attributes:
        name: unique among cases.
        reference: the original.
        candidates: by what they are: ``estimate``, ``input``, ...
        cutoff: Hz, where the low-res input ends; None: found from the candidate ``input``.
        sources: facts of files that the sounds were made of, by what they are.
        notes: on how the sounds were made.
    """

    name: str
    reference: Sound
    candidates: Mapping[str, Sound] = field(default_factory=dict)
    cutoff: float | None = None
    sources: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_sound(path: Path) -> Sound:
    """Read a whole file.

    Raises:
        TrackError: it is no audio, damaged, empty, or holds a sample that is not a number.
        EnvironmentFailure: the machine is at fault.
    """
    with machine_errors(f"reading {printable(str(path))}"), open_audio(path) as file:
        frames = np.concatenate([*file.blocks()])
        return Sound(np.ascontiguousarray(frames.T), file.format.rate, file.format.subtype)
