"""Noise with a given spectrum, and what files do to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.stages.degrade import recreate
from pipeline.stages.variants import parse_lr


def tilted(
    seconds: float,
    fall: float,
    *,
    knee: float = 100.0,
    rate: int = 44100,
    channels: int = 1,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Noise ``[channels, n]`` of level 0.1 that falls by ``fall`` dB per octave above ``knee``."""
    samples = int(seconds * rate)
    white = np.random.default_rng(seed).standard_normal((channels, samples))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / rate), knee) / knee)
    shaped = np.fft.irfft(np.fft.rfft(white) * 10 ** (-fall * octaves / 20), samples)
    return (0.1 * shaped / shaped.std()).astype(np.float32)


def rounded(signal: NDArray[np.float32], bits: int = 16) -> NDArray[np.float32]:
    """Through integers, with triangular dither."""
    random, scale = np.random.default_rng(9), 2 ** (bits - 1)
    noise = random.random(signal.shape) - random.random(signal.shape)
    return (np.clip(np.rint(signal * scale + noise), -scale, scale - 1) / scale).astype(np.float32)


def degraded(signal: NDArray[np.float32], how: str | dict, scratch: Path) -> NDArray[np.float32]:
    """Through a degradation of the builder: a value of ``--lr``, or its parameters."""
    params = parse_lr(how).params("track", 0) if isinstance(how, str) else how
    degradation = recreate(params)
    if degradation.needs_prepare:
        degradation.prepare(iter([signal]), scratch)
    done = np.concatenate([degradation.push(signal), degradation.flush()], axis=1)
    degradation.close()
    return done


def power_spectrum(signal: NDArray, size: int = 4096) -> NDArray[np.float64]:
    """Mean power of each bin, in dB, of the first channel."""
    frames = np.lib.stride_tricks.sliding_window_view(signal[0], size)[:: size // 4]
    window = np.hanning(size + 1)[:-1] ** 2
    return 10 * np.log10((np.abs(np.fft.rfft(frames * window)) ** 2).mean(axis=0) + 1e-30)


def cut(signal: NDArray, places: list[int]) -> list[NDArray]:
    """Pieces of ``[channels, n]``, some possibly empty."""
    return np.split(signal, sorted(min(place, signal.shape[1]) for place in places), axis=1)
