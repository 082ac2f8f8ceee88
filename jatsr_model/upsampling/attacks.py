"""What is generated begins no earlier than the input does.

A number of a latent frame sounds for the whole of its window, 23 ms of the embedded codec, and so
does what an envelope is filled with: before a click there would be a hiss, the pre-echo. The input
tells when it comes. Where the upper octave of its own band is fainter than it is going to be within
the next 23 ms, what was generated is made as much fainter; decays stay as they were generated.
Temporal envelope shaping in audio coding does it likewise (inter-TES of MPEG-D USAC, where the
encoder says how much; here nobody knows, so 4 dB are ignored and noise stays as it is).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, Fifo, joined
from jatsr_model.upsampling.splice import Crossover

_BATCH = 8192  # samples that are shaped at once, always the same ones
_SHORT = 0.003  # seconds over which the level of now is averaged
_AHEAD = 0.023  # seconds of what comes
_IGNORED = 10**0.4  # of energies: noise rises and falls by itself
_SILENCE = 1e-14  # energy that is none


class Attacks:
    """Shapes a stream; the output does not depend on how it is cut.

    Args:
        rate: Hz.
        channels: C; all of them are shaped alike, which keeps the stereo image.
        crossover: above which there is nothing of the input.
    """

    def __init__(self, rate: int, channels: int, crossover: Crossover) -> None:
        from scipy.signal import butter  # late: importing it takes longer than most commands

        octave = [crossover.low / 2, crossover.low]
        self._filter = butter(2, octave, "bandpass", fs=rate, output="sos")
        self._state = np.zeros((len(self._filter), channels, 2))
        half = round(_SHORT * rate / 2)
        self._short, self._ahead = _hann(2 * half + 1), _hann(round(_AHEAD * rate))
        self._energy = np.zeros(half)  # of the own octave, from half a window before the next batch
        self._both = Fifo()  # own channels, then generated ones
        self._channels = channels
        self._waiting = 0  # samples pushed and not returned

    def push(self, own: Block, generated: Block) -> tuple[Block, Block]:
        """Feed two blocks ``(C, n)``, float32; returns what is ready of both, ``(C, m)``."""
        self._waiting += own.shape[1]
        return self._take(own, generated)

    def flush(self) -> tuple[Block, Block]:
        """The rest of both."""
        rest = self._waiting
        silence = np.zeros((self._channels, rest + _BATCH + self._reach), np.float32)
        own, generated = self._take(silence, silence)
        return own[:, :rest], generated[:, :rest]

    @property
    def _reach(self) -> int:
        """By how many samples the energies of a batch are more than the batch."""
        return len(self._short) + len(self._ahead) - 2

    def _take(self, own: Block, generated: Block) -> tuple[Block, Block]:
        from scipy.signal import sosfilt

        if own.shape[1]:
            octave, self._state = sosfilt(self._filter, own, zi=self._state)
            self._energy = np.concatenate([self._energy, np.square(octave).sum(axis=0)])
            self._both.push(np.concatenate([own, generated]))
        done = []
        while len(self._energy) >= _BATCH + self._reach:
            gain = self._gain(self._energy[: _BATCH + self._reach])
            self._energy = self._energy[_BATCH:]
            done.append(self._shaped(self._both.take(_BATCH), gain))
        both = joined(done, 2 * self._channels)
        self._waiting -= both.shape[1]
        return both[: self._channels], both[self._channels :]

    def _gain(self, energy: NDArray[np.float64]) -> NDArray[np.float32]:
        """``[_BATCH]``: 1, and less before an attack."""
        from scipy.signal import fftconvolve

        now = fftconvolve(energy, self._short, "valid").clip(min=0) + _SILENCE
        coming = fftconvolve(now, self._ahead[::-1], "valid")
        gain: NDArray[np.float32] = np.sqrt(
            np.minimum(_IGNORED * now[:_BATCH] / coming, 1), dtype=np.float32
        )
        return gain

    def _shaped(self, both: Block, gain: NDArray[np.float32]) -> Block:
        """What differs from the own signal, and that is the upper band, gets the gain."""
        own, generated = np.split(both, 2)
        fainter = np.where(gain < 1, own + gain * (generated - own), generated)
        return np.concatenate([own, fainter])


def _hann(samples: int) -> NDArray[np.float64]:
    window = np.hanning(samples + 2)[1:-1]
    weights: NDArray[np.float64] = window / window.sum()
    return weights
