"""Damage by lossy codecs: a round trip through MP3, Opus or Ogg Vorbis (libsndfile)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from jatsr_model.audio.blocks import Block, Fifo
from jatsr_model.audio.decode_soundfile import SequentialFile
from jatsr_model.audio.resample import Resampler, output_length
from pipeline.stages.degradation import SAMPLE_RATE, Degradation
from shards.errors import EnvironmentFailure

_BLOCK = 1 << 14  # samples per call of encoder and decoder

MP3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # MPEG-1 Layer III
OPUS_KBPS = range(6, 257)  # libsndfile's range per channel
# libvorbis codes by quality; its nominal kbit/s at 44.1 kHz for qualities 0.0, 0.1 ... 1.0.
_VORBIS_MONO = (48, 60, 70, 80, 86, 96, 110, 120, 140, 160, 240)
_VORBIS_STEREO = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)
VORBIS_KBPS = range(_VORBIS_MONO[0], _VORBIS_MONO[-1] + 1)

# Samples that LAME (576) and the decoder (528 + 1) put in front. Files with a LAME tag say so and
# decode without; in frames below about 64 kbit/s the tag finds no room.
_MP3_DELAY = 1105


@dataclass(frozen=True)
class _Coding:
    """How libsndfile is asked for a codec and bit rate."""

    container: str
    subtype: str
    rate: int  # Hz
    level: float  # libsndfile's compression level, 0 to 1
    mode: str | None


def coding(codec: str, kbps: int, channels: int) -> _Coding:
    """Settings of libsndfile that come nearest to a bit rate.

    Args:
        codec: ``mp3``, ``opus`` or ``vorbis``.
        kbps: kbit/s of the whole file, all channels together.
        channels: 1 or 2.
    """
    if codec == "mp3":  # constant bit rate, linear from 320 (level 0) to 32; exactly 1 is refused
        level = min((320 - kbps) / 288, 0.9999)
        return _Coding("MP3", "MPEG_LAYER_III", SAMPLE_RATE, level, "CONSTANT")
    if codec == "opus":  # variable bit rate, linear per channel
        low, high = OPUS_KBPS[0], OPUS_KBPS[-1]
        level = (high - min(max(kbps / channels, low), high)) / (high - low)
        return _Coding("OGG", "OPUS", 48000, level, None)
    if codec == "vorbis":
        nominal = _VORBIS_MONO if channels == 1 else _VORBIS_STEREO
        quality = float(np.interp(kbps, nominal, np.linspace(0, 1, len(nominal))))
        return _Coding("OGG", "VORBIS", SAMPLE_RATE, 1 - quality, None)
    raise ValueError(f"codec: expected mp3, opus or vorbis, found {codec!r}")


class Lossy(Degradation):
    """A codec round trip, aligned to the sample and exactly as long as the input.

    Opus at low rates may code speech-like passages with its speech mode, whose output libopus
    returns 2 samples (at 48 kHz, 0.04 ms) early; the mode can change in mid-stream, so this is
    left as it is.

    Args:
        params: ``kind``, ``codec``, ``kbps``, ``library``.
    """

    version = f"1 libsndfile-{sf.__libsndfile_version__}"
    needs_prepare = True

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self._reader: _Reader | None = None
        self._kbps: float | None = None
        self._channels = 1

    @property
    def measured(self) -> Mapping[str, Any]:
        """``kbps_measured``: size of the encoded file over its duration, headers included."""
        return {} if self._kbps is None else {"kbps_measured": self._kbps}

    def prepare(self, blocks: Iterable[Block], scratch: Path) -> None:
        """Encode the whole signal to a temporary file in ``scratch``, which is unlinked at once.

        Raises:
            EnvironmentFailure: the file could not be written or read back.
        """
        self.close()
        iterator = (block for block in blocks if block.shape[1])
        first = next(iterator, None)
        if first is None:
            return
        self._channels = len(first)
        how = coding(self.params["codec"], self.params["kbps"], self._channels)
        with _disk(scratch):
            handle, name = tempfile.mkstemp(prefix="lossy-", suffix=".tmp", dir=scratch)
            os.close(handle)
        try:
            samples = _encode(name, how, chain([first], iterator), self._channels)
            self._kbps = round(os.path.getsize(name) * 8 / 1000 / (samples / SAMPLE_RATE), 2)
            with _disk(scratch):
                self._reader = _Reader(name, how, self._channels, samples)
        finally:
            os.unlink(name)

    def push(self, block: Block) -> Block:
        """The degraded samples at the place of ``block``, as many as it has."""
        if not block.shape[1]:
            return block
        if self._reader is None:
            raise ValueError("a lossy degradation must be prepared before it is used")
        return self._reader.read(block.shape[1])

    def flush(self) -> Block:
        """Nothing is left."""
        return np.zeros((self._channels, 0), np.float32)

    def close(self) -> None:
        """Delete the temporary file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


@contextmanager
def _disk(scratch: Path) -> Iterator[None]:
    """Turn what a full disk causes into an EnvironmentFailure."""
    try:
        yield
    except (sf.LibsndfileError, AssertionError, OSError) as error:
        # soundfile asserts that all frames were written.
        raise EnvironmentFailure(
            f"expected to write and read back a temporary file in {scratch}, "
            f"found: {error or 'frames missing'}",
            hint="free some space there, then run the same command again",
        ) from error


def _encode(name: str, how: _Coding, blocks: Iterable[Block], channels: int) -> int:
    """Write a signal; returns its samples at 44.1 kHz."""
    resampler = Resampler(SAMPLE_RATE, how.rate, channels)
    fifo = Fifo()
    samples = 0
    folder = Path(name).parent
    with ExitStack() as stack:
        with _disk(folder):
            file = sf.SoundFile(
                name,
                "w",
                how.rate,
                channels,
                how.subtype,
                format=how.container,
                compression_level=how.level,
                bitrate_mode=how.mode,
            )
        stack.callback(file.close)
        for block in blocks:
            samples += block.shape[1]
            fifo.push(resampler.push(block))
            with _disk(folder):
                while fifo.available >= _BLOCK:
                    file.write(fifo.take(_BLOCK).T)
        fifo.push(resampler.flush())
        with _disk(folder):
            while fifo.available:
                file.write(fifo.take(min(_BLOCK, fifo.available)).T)
            file.close()
    return samples


class _Reader:
    """The decoded file at 44.1 kHz, on time, ``samples`` samples long."""

    def __init__(self, name: str, how: _Coding, channels: int, samples: int) -> None:
        self._file = SequentialFile(name)
        self._resampler = Resampler(how.rate, SAMPLE_RATE, channels)
        self._samples = samples
        self._missing = output_length(samples, SAMPLE_RATE, how.rate)  # frames still to read
        self._fifo = Fifo()
        # With a LAME tag the file has exactly the samples that were written, otherwise more.
        if how.container == "MP3" and self._file.frames != samples:
            self._skip(_MP3_DELAY)

    def read(self, samples: int) -> Block:
        """The next samples, ``(C, samples)``."""
        while self._fifo.available < samples:
            if self._missing:
                self._fifo.push(self._resampler.push(self._next()))
            else:
                self._fifo.push(self._resampler.flush(self._samples))
        return self._fifo.take(samples)

    def close(self) -> None:
        """Close the file, which frees its space."""
        self._file.close()

    def _next(self) -> Block:
        wanted = min(_BLOCK, self._missing)
        frames = self._file.read(wanted, dtype="float32", always_2d=True)
        if not len(frames):
            raise EnvironmentFailure(
                f"expected {self._missing} more samples in a temporary file, found its end",
                hint="the disk of DEST is probably full: free some space there",
            )
        self._missing -= len(frames)
        return np.ascontiguousarray(frames.T)

    def _skip(self, frames: int) -> None:
        while frames and (skipped := len(self._file.read(frames, dtype="float32"))):
            frames -= skipped
