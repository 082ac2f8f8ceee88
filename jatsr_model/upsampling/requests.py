"""A signal as the windows that a network samples, with their conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from jatsr_model.audio.blocks import Block
from jatsr_model.codecs import frames_of
from jatsr_model.codecs.windower import Windower
from jatsr_model.sampling import excited, noise_field
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.pool import Request
from jatsr_model.upsampling.rolling import Rolling
from jatsr_model.upsampling.settings import Settings
from jatsr_model.upsampling.stereo import (
    REACH,
    SPAN,
    STEP,
    Kinds,
    correlation,
    kinds_of,
    mixed,
    mixing,
)
from jatsr_model.upsampling.windows import Layout, Window
from shards.envelope import FFT_SIZE, HOP, rolloff


@dataclass(frozen=True, eq=False)
class Pending:
    """A window on its way.

    Attributes:
        window: where it is.
        request: of its different channels; none where all is silent.
        kinds: which of them each channel of the signal is.
        is_last: of the signal.
    """

    window: Window
    request: Request
    kinds: Kinds
    is_last: bool


class Requests:
    """Makes windows of a stream; they do not depend on how it is cut.

    Args:
        model: that samples them.
        settings: how.
        layout: of windows.
        key: of the noise.
        channels: C.
        samples: of the whole signal at the codec's rate, at least 1.
        cutoff: Hz, up to where the signal has its own band.
    """

    def __init__(
        self, model: Model, settings: Settings, layout: Layout, key: str, *,
        channels: int, samples: int, cutoff: float,
    ) -> None:  # fmt: skip
        codec = model.codec
        self._model, self._settings, self._key = model, settings, key
        self._windower = Windower(codec, channels)
        self._channels, self._samples, self._cutoff = channels, samples, cutoff
        self._share = 2 * cutoff / codec.sample_rate  # of the Nyquist frequency
        self._frames = frames_of(samples, codec.hop)
        self._windows = layout.windows(self._frames)
        self._next: Window | None = next(self._windows, None)
        self._wave = Rolling(np.zeros((channels, 0), np.float32))
        self._stored = Rolling(np.zeros((channels, codec.stored_rows, 0), codec.stored_dtype))

    def push(self, block: Block) -> Iterator[Pending]:
        """Take ``(C, n)`` at the codec's rate and the level for the network."""
        self._wave.append(block)
        for piece in self._windower.push(block):
            self._stored.append(self._model.codec.encode_windows(piece))
            yield from self._ready()
        yield from self._ready()

    def flush(self) -> Iterator[Pending]:
        """The windows that are left, after the last sample."""
        for piece, frames in self._windower.flush():
            self._stored.append(self._model.codec.encode_windows(piece)[..., :frames])
            yield from self._ready()

    def _ready(self) -> Iterator[Pending]:
        while self._next is not None and self._is_known(self._next):
            window, self._next = self._next, next(self._windows, None)
            yield self._pending(window)
            if self._next is not None:
                self._stored.drop(self._next.start)
                self._wave.drop(_steps(self._next)[0] * STEP - REACH)

    def _is_known(self, window: Window) -> bool:
        heard = min(_steps(window)[-1] * STEP + STEP + REACH, self._samples)
        return window.stop <= self._stored.stop and heard <= self._wave.stop

    def _pending(self, window: Window) -> Pending:
        stored = self._stored.get(window.start, window.stop)
        half = FFT_SIZE // 2
        wave = self._wave.get(window.start * HOP - half, (window.stop - 1) * HOP + half)
        kinds = kinds_of(stored, wave)
        first = kinds.first if wave.any() else []
        low = self._model.low(stored[first])
        request = Request(
            low=low,
            noise=self._excitations(window, low, first),
            rolloff=self._rolloffs(wave * kinds.signs),
            cutoff=self._share,
        )
        return Pending(window, request, kinds, is_last=window.stop == self._frames)

    def _excitations(self, window: Window, low: Tensor, channels: Sequence[int]) -> Tensor:
        """Of the different channels, ``[U, D, T]``; noise where their own band cannot be moved."""
        if not channels:
            return low
        noise = torch.from_numpy(self._noise(window)[channels])
        cutoffs = [self._share] * len(low)
        return excited(self._model.network, self._model.decoder, low, cutoffs, noise)

    def _noise(self, window: Window) -> NDArray[np.float32]:
        """Of all channels, ``[C, D, T]``."""
        width, shape = self._model.network.config.latent_dim, (self._channels, -1, window.frames)
        seed, rows = self._settings.seed, self._channels * width
        noise = noise_field(seed, self._key, window.start, window.frames, rows).numpy()
        noise = noise.reshape(shape)
        if self._channels == 1:
            return noise
        rate, steps = self._model.codec.sample_rate, _steps(window)
        spans = (self._wave.get(k * STEP - REACH, k * STEP - REACH + SPAN) for k in steps)
        weights = mixing(np.stack([correlation(span, self._cutoff, rate) for span in spans]))
        of_frame = np.arange(window.start, window.stop) * HOP // STEP - steps[0]
        return mixed(noise, weights[of_frame])

    def _rolloffs(self, wave: Block) -> tuple[float, float | None]:
        """Of the window as it is, and of what is asked for."""
        found = window_rolloff(wave) if self._model.has_rolloff else 0.0
        target = self._model.told_hz(self._settings.target_hz)
        if target is None:
            return found, None
        return found, max(found, min(2 * target / self._model.codec.sample_rate, 1.0))


def window_rolloff(wave: Block) -> float:
    """The roll-off of a window, as a training has it of crops: magnitudes of the mean channel.

    Args:
        wave: float32 ``(C, (T - 1) * HOP + FFT_SIZE)``: T frames in the middle of their transforms.

    Returns:
        Share of the Nyquist frequency, in [0, 1).
    """
    import scipy.fft  # late: importing it takes longer than most commands

    mono = wave.mean(axis=0, dtype=np.float32)
    phase = 2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE
    shape = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    frames = sliding_window_view(mono, FFT_SIZE)[::HOP]
    return rolloff(np.abs(scipy.fft.rfft(frames * shape, axis=-1)).sum(axis=0, dtype=np.float64))


def _steps(window: Window) -> range:
    """Stretches of ``STEP`` samples that a window has a part in."""
    return range(window.start * HOP // STEP, -(-window.stop * HOP // STEP))
