"""The input's own band below a cutoff and the generated one above it, in one signal.

    out = own + inverse STFT of D,   D = a O + b G - O = b (G - O) + (a + b - 1) O

O and G are the spectra of the two signals, a and b their weights: 1 and 0 below the crossover, 0
and r above it. The own band is therefore not processed at all, and where both signals are equal, D
is exactly zero.

Inside the crossover the weights keep the power: plain linear weights would leave a dip of 3 dB, a
dark line, where the signals are unlike, and such of equal power a bright one where they are alike.
How alike they are (their correlation in the third of an octave below the cutoff) is measured, and
so is how loud the generated signal is there compared with the own one: the factor r makes up for
it, so that there is no step at the cutoff, and nothing is generated where the own signal is silent.
Both are measured over all channels (r is the mean, in dB, of what would suit each of them, by their
power) and are the same for them, which keeps the stereo image. Only a channel that would get far
more than its own band has, such as an almost silent one beside music, gets less: r is at most
twice what would suit that channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, Fifo, joined
from jatsr_model.upsampling.bandwidth import Bandwidth

_BATCH = 32  # frames of one transform, always the same ones, so that cutting does not matter
_SMOOTH = 24  # frames before and after that likeness and level are averaged over, a quarter second
_WIDTH = 2 ** (1 / 24)  # of the crossover: a quarter tone
_JUDGED = 2 ** (1 / 3)  # of the band below it where the signals are compared, with the crossover
_LOUDER = 2.0  # the generated signal is amplified at most so much
_LEEWAY = 2.0  # and in no channel by more than so often what would suit that channel


@dataclass(frozen=True)
class Crossover:
    """Where the own signal, alone up to ``low``, gives way to the generated one; Hz."""

    low: float
    high: float


def crossover_of(found: Bandwidth, rate: int) -> Crossover | None:
    """The crossover below the edge that was found; None if there is nothing to add at ``rate``."""
    if not found.is_below(rate):
        return None
    return Crossover(found.solid_hertz / _WIDTH, found.solid_hertz)


class Splicer:
    """Splices two streams of equal length; the output does not depend on how they are cut.

    Args:
        rate: Hz.
        channels: C.
        crossover: where.
    """

    def __init__(self, rate: int, channels: int, crossover: Crossover) -> None:
        self._size = 1 << round(np.log2(rate / 21.5))
        self._hop = self._size // 4
        self._channels = channels
        bins = np.arange(self._size // 2 + 1) * rate / self._size
        place = np.clip((bins - crossover.low) / (crossover.high - crossover.low), 0, 1)
        self._share = 0.5 - 0.5 * np.cos(np.pi * place)  # of the generated signal
        self._judged = (bins >= crossover.low / _JUDGED) & (bins <= crossover.high)
        self._window = np.sqrt(np.hanning(self._size + 1)[:-1]).astype(np.float32)
        averaging = np.hanning(2 * _SMOOTH + 3)[1:-1]
        self._averaging = averaging / averaging.sum()

        lead = np.zeros((2 * channels, self._size - self._hop), np.float32)
        self._both = Fifo()  # own channels, then generated ones
        self._context = lead
        self._own = Fifo()
        self._own.push(lead[:channels])
        self._pending: NDArray[np.complex64] | None = None
        # Of the batch before the pending one, and of it.
        self._moments = np.zeros((3, channels, 2 * _BATCH))
        self._tail = np.zeros((channels, self._size - self._hop), np.float32)
        self._early = self._size - self._hop  # samples to come that precede the signal
        self._waiting = 0  # samples pushed and not returned

    def push(self, own: Block, generated: Block) -> Block:
        """Feed two blocks ``(C, n)``, float32; returns what is ready, ``(C, m)``.

        Raises:
            ValueError: they are not of the same shape.
        """
        if own.shape != generated.shape:
            raise ValueError(f"own {own.shape} and generated {generated.shape} differ in shape")
        self._waiting += own.shape[1]
        return self._take(np.concatenate([own, generated]))

    def flush(self) -> Block:
        """The rest of the output."""
        silence = np.zeros((2 * self._channels, _BATCH * self._hop), np.float32)
        wanted, done = self._waiting, [np.zeros((self._channels, 0), np.float32)]
        while sum(block.shape[1] for block in done) < wanted:
            done.append(self._take(silence))
        return joined(done, self._channels)[:, :wanted]

    def _take(self, both: Block) -> Block:
        self._both.push(both)
        self._own.push(both[: self._channels])
        done = []
        while self._both.available >= _BATCH * self._hop:
            fresh = np.concatenate([self._context, self._both.take(_BATCH * self._hop)], axis=1)
            self._context = fresh[:, _BATCH * self._hop :]
            done.append(self._next(self._spectra(fresh)))
        ready = joined(done, self._channels)
        self._waiting -= ready.shape[1]
        return ready

    def _spectra(self, signals: Block) -> NDArray[np.complex64]:
        import scipy.fft  # late: importing it takes longer than most commands

        frames = sliding_window_view(signals, self._size, axis=1)[:, :: self._hop]
        spectra: NDArray[np.complex64] = scipy.fft.rfft(frames * self._window, axis=-1)
        return spectra

    def _next(self, spectra: NDArray[np.complex64]) -> Block:
        """Finish the batch before this one, now that it is known what follows."""
        moments = np.concatenate([self._moments, self._measure(spectra)], axis=-1)
        self._moments = moments[..., _BATCH:]
        pending, self._pending = self._pending, spectra
        if pending is None:
            return np.zeros((self._channels, 0), np.float32)
        around = moments[..., _BATCH - _SMOOTH : 2 * _BATCH + _SMOOTH]
        averages = sliding_window_view(around, 2 * _SMOOTH + 1, axis=-1) @ self._averaging
        return self._joined(self._overlapped(self._difference(pending, averages)))

    def _measure(self, spectra: NDArray[np.complex64]) -> NDArray[np.float64]:
        """Power of the own signal, of the generated one, their product; ``[3, C, frames]``."""
        own, generated = np.split(spectra[:, :, self._judged].astype(np.complex128), 2)
        pairs = ((own, own), (generated, generated), (own, generated))
        return np.stack([(x.real * y.real + x.imag * y.imag).sum(axis=-1) for x, y in pairs])

    def _difference(
        self, spectra: NDArray[np.complex64], averages: NDArray[np.float64]
    ) -> NDArray[np.complex64]:
        own, generated = np.split(spectra, 2)
        power, generated_power, product = averages.sum(axis=1)
        likeness = _ratio(product, np.sqrt(power * generated_power), 1.0).clip(0, 1)
        level = _levels(averages[0], averages[1])[..., np.newaxis]
        x = self._share
        # Of two signals of equal power the sum (1 - x) O + x G has this power.
        kept = 1 / np.sqrt(1 - 2 * x * (1 - x) * (1 - likeness[:, np.newaxis]))
        a, b = kept * (1 - x), kept * x * level
        difference: NDArray[np.complex64] = b.astype(np.float32) * (generated - own)
        difference += (a + b - 1).astype(np.float32) * own
        return difference

    def _overlapped(self, difference: NDArray[np.complex64]) -> Block:
        import scipy.fft

        frames = scipy.fft.irfft(difference, self._size, axis=-1) * (self._window / 2)
        length = _BATCH * self._hop
        added = np.zeros((self._channels, length + self._size - self._hop), np.float32)
        added[:, : self._tail.shape[1]] = self._tail
        for number in range(_BATCH):
            start = number * self._hop
            added[:, start : start + self._size] += frames[:, number]
        self._tail = added[:, length:].copy()
        return added[:, :length]

    def _joined(self, difference: Block) -> Block:
        spliced = self._own.take(difference.shape[1]) + difference
        early = min(self._early, spliced.shape[1])
        self._early -= early
        return spliced[:, early:]


def _levels(own: NDArray[np.float64], generated: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors of the generated signal, from the powers ``[C, frames]`` of both."""
    suiting = _ratio(own, generated, np.inf)
    share = _ratio(own, own.sum(axis=0, keepdims=True), 0.0)
    known = np.log(np.minimum(suiting, _LOUDER**2), out=np.zeros_like(own), where=own > 0)
    level = np.exp(np.einsum("cf,cf->f", share, known) / 2)
    levels: NDArray[np.float64] = np.minimum(level, _LEEWAY * np.sqrt(suiting))
    return levels * (own > 0)


def _ratio(
    dividend: NDArray[np.float64], divisor: NDArray[np.float64], otherwise: float
) -> NDArray[np.float64]:
    """The ratio, where the divisor is not 0."""
    filled = np.full_like(dividend, otherwise)
    np.divide(dividend, divisor, out=filled, where=divisor > 0)
    return filled
