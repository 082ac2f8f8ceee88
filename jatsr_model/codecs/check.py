"""Measuring a codec on real audio: what a round trip keeps, what storage and encoding cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jatsr_model.codecs.base import Codec, encode
from jatsr_model.codecs.chunked import decode_chunked
from jatsr_model.codecs.registry import load
from jatsr_model.codecs.spec import CodecSpec
from shards.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_FRAMES = 512


@dataclass(frozen=True, kw_only=True)
class Check:
    """One file through a codec.

    Args:
        file: its name.
        seconds: of audio measured.
        channels: of audio measured.
        snr_db: energy of the waveform over that of the round trip's error; None for silence or
            where the round trip is exact.
        lsd: log-spectral distance as ``jatsr evaluate`` measures it, mean over channels; None for
            less audio than a window.
        stored_mb_per_hour: of one channel, 10^6 bytes.
        encode_realtime: seconds of one channel encoded per second.
        bf16_agreement: share of codes that bf16 and fp32 have in common; None for mdct.
    """

    file: str
    seconds: float
    channels: int
    snr_db: float | None
    lsd: float | None
    stored_mb_per_hour: float
    encode_realtime: float
    bf16_agreement: float | None


class Checker:
    """Holds the codec, and for DAC also its twin of the other precision."""

    def __init__(self, spec: CodecSpec) -> None:
        self.spec = spec
        self.codec = load(spec)
        self.twin: Codec | None = None
        if spec.name != "mdct":
            other = "fp32" if spec.precision == "bf16" else "bf16"
            self.twin = load(replace(spec, precision=other))

    def check(self, file: str, wave: NDArray[np.float32]) -> Check:
        """Measure ``[channels, samples]`` at the codec's rate."""
        import torch

        encode(self.codec, wave[:, : self.codec.hop])  # warm up
        start = time.perf_counter()
        stored = encode(self.codec, wave)
        elapsed = time.perf_counter() - start
        with torch.inference_mode():
            z = self.codec.latents(torch.from_numpy(stored))
            back = decode_chunked(self.codec, z, _CHUNK_FRAMES)[..., : wave.shape[-1]].cpu()
        lsd = _lsd(torch.from_numpy(wave), back)
        channels, seconds = wave.shape[0], wave.shape[-1] / self.codec.sample_rate
        agreement = None
        if self.twin is not None:
            agreement = float(np.mean(encode(self.twin, wave) == stored))
        return Check(
            file=file,
            seconds=seconds,
            channels=channels,
            snr_db=_snr(wave, back.numpy()),
            lsd=lsd,
            stored_mb_per_hour=stored.nbytes / channels / seconds * 3600 / 1e6,
            encode_realtime=channels * seconds / elapsed,
            bf16_agreement=agreement,
        )


def _snr(wave: NDArray[np.float32], back: NDArray[np.float32]) -> float | None:
    signal = float(np.sum(wave.astype(np.float64) ** 2))
    noise = float(np.sum((wave.astype(np.float64) - back) ** 2))
    return 10 * float(np.log10(signal / noise)) if signal > 0 and noise > 0 else None


def _lsd(wave: Tensor, back: Tensor) -> float | None:
    from jatsr_model.metrics.log_spectral import lsd
    from jatsr_model.metrics.stft import ShortClipError

    try:
        return float(lsd(wave, back).mean())
    except ShortClipError:
        return None


def read_audio(path: Path, rate: int, seconds: float) -> NDArray[np.float32]:
    """The first seconds of a file: float32 ``[channels, samples]`` at ``rate``.

    Raises:
        ConfigError: the file cannot be read or holds no samples.
    """
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as file:
            source = file.samplerate
            wave = file.read(int(seconds * source), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ConfigError(
            f"{path} cannot be read as audio: {error}", hint="name WAV, FLAC, MP3 or Ogg files"
        ) from error
    if len(wave) == 0:
        raise ConfigError(f"{path} holds no samples", hint="name a file with audio in it")
    if source != rate:
        wave = soxr.resample(wave, source, rate)
    return np.ascontiguousarray(wave.T, np.float32)


def synthetic_audio(rate: int, seconds: float) -> NDArray[np.float32]:
    """Where no file is named: gliding tones and decaying noise bursts, two channels."""
    generator = np.random.default_rng(0)
    axis = np.arange(int(rate * seconds)) / rate
    lanes = []
    for pitch in (220.0, 330.0):
        tone = np.sin(2 * np.pi * pitch * (axis + 0.002 * np.sin(5 * axis)))
        noise = generator.standard_normal(len(axis)) * np.exp(-10 * ((2 * axis) % 1))
        lanes.append(0.3 * tone + 0.1 * noise)
    return np.asarray(lanes, np.float32)
