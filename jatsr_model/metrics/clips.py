"""A stretch from the middle of a file, mono, at the rate of the comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jatsr_model.audio.blocks import Block
from jatsr_model.audio.decode import open_audio
from jatsr_model.audio.resample import Resampler
from shards.files import machine_errors, printable


@dataclass(frozen=True, eq=False)
class Clip:
    """What is taken of a file.

    Attributes:
        wave: float32 ``[1, n]``, the mean of the channels.
        facts: of the file and of the place in it, for JSON.
    """

    wave: Block
    facts: Mapping[str, object]


def read_clip(path: Path, seconds: float | None, rate: int) -> Clip:
    """Read the middle of a file.

    It is cut at the file's own rate, so that every resampler sees the same hard edges.

    Args:
        path: any format that an installed decoder knows.
        seconds: how much; None, or more than there is: all of it.
        rate: Hz, of the result.

    Raises:
        TrackError: it is no audio, damaged, empty, or holds a sample that is not a number.
        EnvironmentFailure: the machine is at fault.
    """
    with machine_errors(f"reading {printable(str(path))}"), open_audio(path) as file:
        means = [block.mean(axis=1, dtype=np.float64) for block in file.blocks()]
        found = file.format
    wave = np.concatenate([mean.astype(np.float32) for mean in means])[np.newaxis]
    total = wave.shape[1]
    length = total if seconds is None else min(total, math.ceil(seconds * found.rate))
    start = (total - length) // 2
    facts = {
        "rate": found.rate,
        "channels": found.channels,
        "samples": total,
        "coding": found.subtype,
        "start_seconds": start / found.rate,
        "seconds": length / found.rate,
    }
    return Clip(converted(wave[:, start : start + length], found.rate, rate), facts)


def converted(wave: Block, rate: int, to: int) -> Block:
    """``[C, n]`` at another rate, as ``jatsr upsample`` resamples."""
    resampler = Resampler(rate, to, len(wave))
    return np.concatenate([resampler.push(wave), resampler.flush()], axis=1)


def fitted(wave: Block, samples: int) -> Block:
    """``[C, n]`` of another length.

    There and back again rounds the length twice: some samples may be missing, or too many.
    """
    kept = wave[:, :samples]
    return np.pad(kept, ((0, 0), (0, samples - kept.shape[1])))
