"""Facts of a sound file that decide what an upsampler does with it, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block
from jatsr_model.audio.decode import open_audio
from jatsr_model.audio.decode_base import AudioFormat
from jatsr_model.audio.loudness import Loudness, LoudnessMeter
from jatsr_model.upsampling.bandwidth import Bandwidth, BandwidthMeter
from jatsr_model.upsampling.levels import Silence, SilenceMeter

# Weights of powers beside 1 (BS.1770-4, table 4), by channel count: surrounds count more, the
# low-frequency effects not at all.
_SURROUND, _LFE = 1.41, 0.0
_WEIGHTS = {
    4: {2: _SURROUND, 3: _SURROUND},
    5: {3: _SURROUND, 4: _SURROUND},
    6: {3: _LFE, 4: _SURROUND, 5: _SURROUND},
    7: {3: _LFE, 4: _SURROUND, 5: _SURROUND, 6: _SURROUND},
    8: {3: _LFE, 4: _SURROUND, 5: _SURROUND, 6: _SURROUND, 7: _SURROUND},
}


@dataclass(frozen=True)
class Facts:
    """What was measured of a signal.

    Attributes:
        samples: per channel.
        bandwidth: where its content ends.
        loudness: before any gain.
        silence: where it is digital silence.
    """

    samples: int
    bandwidth: Bandwidth
    loudness: Loudness
    silence: Silence


class Meter:
    """All measurements of a stream, however it is cut.

    Args:
        rate: Hz.
        channels: C, in WAV order.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._bandwidth = BandwidthMeter(rate, channels)
        self._plain = LoudnessMeter(rate, channels)
        self._silence = SilenceMeter(rate, channels)
        self._weighted: LoudnessMeter | None = None
        if channels in _WEIGHTS:
            self._weighted = LoudnessMeter(rate, channels)
            weights = [_WEIGHTS[channels].get(channel, 1.0) for channel in range(channels)]
            self._weights = np.sqrt(weights)[:, np.newaxis].astype(np.float32)

    def push(self, block: Block) -> None:
        """Measure float32 ``(C, n)``."""
        self._bandwidth.push(block)
        self._plain.push(block)
        self._silence.push(block)
        if self._weighted is not None:
            self._weighted.push(block * self._weights)

    def result(self) -> Facts:
        """What was found; call it once, at the end."""
        loudness = self._plain.result()
        if self._weighted is not None:
            loudness = replace(loudness, lufs=self._weighted.result().lufs)
        silence = self._silence.result()
        return Facts(silence.samples, self._bandwidth.result(), loudness, silence)


@dataclass(frozen=True, eq=False)
class Inspection:
    """A file.

    Attributes:
        format: what it is.
        facts: what was measured.
        start: its first samples ``[C, n]``, as many as asked for.
    """

    format: AudioFormat
    facts: Facts
    start: NDArray[np.float32]


def inspect_file(
    path: Path, keep_seconds: float = 0.0, advance: Callable[[float], None] = lambda _: None
) -> Inspection:
    """Decode and measure a file.

    Args:
        path: any format that an installed decoder knows.
        keep_seconds: how much of its start to return.
        advance: called with the seconds that were read.

    Raises:
        TrackError: it cannot be decoded.
    """
    with open_audio(path) as audio:
        found = audio.format
        meter = Meter(found.rate, found.channels)
        wanted, kept = round(keep_seconds * found.rate), [np.zeros((0, found.channels), np.float32)]
        for block in audio.blocks():
            meter.push(np.ascontiguousarray(block.T))
            advance(len(block) / found.rate)
            if wanted > 0:
                kept.append(block[:wanted])
                wanted -= len(block)
    return Inspection(found, meter.result(), np.concatenate(kept).T)
