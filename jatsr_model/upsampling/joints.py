"""The sound of one window fading into that of the next.

Both have the same noise and nearly the same conditions, so they are alike, but not equal. A linear
fade of what is unlike leaves a dip of up to 3 dB, an equal-power fade of what is alike a bump. So
the weights follow from how alike the two are, frequency by frequency, and keep the power:

    (1 - x) A + x B,  over  sqrt(1 - 2 x (1 - x) (1 - likeness))

They are the same for all channels, which keeps the stereo image.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, joined
from jatsr_model.upsampling.windows import SPLINT, Window

_SIZE = 1024
_HOP = _SIZE // 4
_NEIGHBOURS = 33  # bins over which likeness is averaged, 1.4 kHz
_WINDOW = np.sqrt(np.hanning(_SIZE + 1)[:-1]).astype(np.float32)


class Joiner:
    """Makes one signal of windows.

    Args:
        span: frames that neighbours are both heard for.
        hop: samples per frame; ``SPLINT`` frames are at least a transform.
    """

    def __init__(self, span: int, hop: int) -> None:
        self._span, self._edge = span * hop, SPLINT * hop
        self._kept: Block | None = None

    def take(self, window: Window, wave: Block, *, last: bool) -> Block:
        """The next piece of the signal, ``(C, m)``.

        Args:
            window: of the signal, in order.
            wave: what is heard of it, ``(C, (window.last - window.first) * hop)``.
            last: no other one follows.
        """
        pieces = []
        if self._kept is not None:
            pieces.append(fade(self._kept, wave[:, : self._span], self._edge))
            wave = wave[:, self._span :]
        if not last:
            self._kept, wave = wave[:, -self._span :], wave[:, : -self._span]
        pieces.append(wave)
        return joined(pieces, wave.shape[0])


def fade(before: Block, after: Block, edge: int) -> Block:
    """Go over from one signal to the other.

    Args:
        before: float32 ``(C, n)``.
        after: the same span.
        edge: samples at the start in which only the first is heard, and at the end the second; at
            least the length of a transform.

    Returns:
        ``(C, n)``; where both are equal, they are what comes out, exactly.
    """
    import scipy.fft  # late: importing it takes longer than most commands

    channels, samples = before.shape
    lead = _SIZE - _HOP
    both = np.concatenate([before, after])
    tail = -samples % _HOP + lead
    frames = sliding_window_view(np.pad(both, ((0, 0), (lead, tail))), _SIZE, axis=1)[:, ::_HOP]
    first, second = np.split(scipy.fft.rfft(frames * _WINDOW, axis=-1), 2)
    middles = np.arange(frames.shape[1]) * _HOP - lead + _SIZE // 2
    x = np.clip((middles - edge) / (samples - 2 * edge), 0, 1)[:, np.newaxis]
    inside = (x[:, 0] > 0) & (x[:, 0] < 1)
    kept = 1 / np.sqrt(1 - 2 * x * (1 - x) * (1 - _likeness(first[:, inside], second[:, inside])))
    a, b = (kept * (1 - x)).astype(np.float32), (kept * x).astype(np.float32)
    change = scipy.fft.irfft(b * (second - first) + (a + b - 1) * first, _SIZE, axis=-1)
    change *= _WINDOW / 2
    faded = np.zeros((channels, samples + lead + tail), np.float32)
    for number in range(change.shape[1]):
        faded[:, number * _HOP : number * _HOP + _SIZE] += change[:, number]
    signal: Block = before + faded[:, lead : lead + samples]
    return signal


def _likeness(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Correlation by bin, from 0 to 1; 1 where there is nothing."""
    pairs = ((first, first), (second, second), (first, second))
    around = np.ones(_NEIGHBOURS)
    own, other, shared = (
        np.convolve((x * y.conj()).real.sum(axis=(0, 1), dtype=np.float64), around, "same")
        for x, y in pairs
    )
    both = np.sqrt(own * other)
    found = np.divide(shared, both, out=np.ones_like(both), where=both > 0)
    return np.asarray(found.clip(0, 1), np.float64)
