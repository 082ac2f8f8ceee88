"""How alike channels are, and noise that is as much alike.

A network hears one channel at a time, and the noise decides what it makes up. Noise that all
channels share would put that in the centre however wide the music is, noise of each channel's own
would spread it however narrow. So the noise of any two channels has the correlation that these have
in the octave below the cutoff, from 1 for equal channels to -1 for opposite ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block

STEP = 8192  # samples that have one correlation
SPAN = 4 * STEP  # samples under the window that it is measured in
REACH = (SPAN - STEP) // 2  # of them before the step, and as many after it

_WINDOW = np.hanning(SPAN + 1)[:-1].astype(np.float32)


class Kinds(NamedTuple):
    """Channels that are the same but for their sign.

    Attributes:
        first: the first channel of each kind.
        which: the kind of each channel.
        signs: float32 ``[C, 1]``: 1 for what is equal to the first one, -1 for its opposite.
    """

    first: list[int]
    which: list[int]
    signs: NDArray[np.float32]


def kinds_of(stored: NDArray[Any], wave: Block) -> Kinds:
    """Find the channels of a window that are the same.

    Args:
        stored: ``[C, rows, T]``, as encoded.
        wave: float32 ``(C, n)``; latents do not show what is opposite.
    """

    def sign(one: int, other: int) -> int:
        if np.array_equal(stored[one], stored[other]):
            return 1
        return -1 if np.array_equal(wave[one], -wave[other]) else 0

    first: list[int] = []
    found: list[tuple[int, int]] = []
    for channel in range(len(stored)):
        known = ((kind, sign(one, channel)) for kind, one in enumerate(first))
        found.append(next((pair for pair in known if pair[1]), (len(first), 1)))
        if found[-1][0] == len(first):
            first.append(channel)
    which, signs = zip(*found, strict=True)
    return Kinds(first, list(which), np.array(signs, np.float32)[:, np.newaxis])


def correlation(wave: Block, cutoff: float, rate: int) -> NDArray[np.float64]:
    """How alike channels are in the octave below a cutoff.

    Args:
        wave: float32 ``(C, SPAN)``.
        cutoff: Hz.
        rate: Hz.

    Returns:
        ``[C, C]``, from -1 to 1, with ones on the diagonal; 0 beside a silent channel.
    """
    import scipy.fft  # late: importing it takes longer than most commands

    last = round(cutoff * SPAN / rate)
    spectra = scipy.fft.rfft(wave * _WINDOW, axis=-1)[:, last // 2 : last + 1]
    shared = np.einsum("ck,dk->cd", spectra, spectra.conj()).real.astype(np.float64)
    level = np.sqrt(np.diagonal(shared))
    both = np.outer(level, level)
    found: NDArray[np.float64] = np.zeros_like(both)
    np.divide(shared, both, out=found, where=both > 0)
    np.fill_diagonal(found, 1.0)
    return found.clip(-1, 1)


def mixing(correlations: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weights of independent noises that give mixtures these correlations, and variance 1.

    They are a smooth function of the correlations. Where all are 1, every channel has the first
    noise alone, as a single channel has it.

    Args:
        correlations: ``[N, C, C]``.

    Returns:
        ``[N, C, C]``: of each channel, the weight of each noise.
    """
    import scipy.fft

    values, vectors = np.linalg.eigh(correlations)
    roots = (vectors * np.sqrt(values.clip(0))[:, np.newaxis]) @ vectors.swapaxes(-1, -2)
    turned = roots @ scipy.fft.dct(np.eye(correlations.shape[-1]), norm="ortho")
    weights: NDArray[np.float32] = turned.astype(np.float32)
    return weights


def mixed(noise: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mixtures of noises, frame by frame.

    Args:
        noise: ``[C, D, T]``.
        weights: ``[T, U, C]``, of U mixtures.

    Returns:
        ``[U, D, T]``. Products and sums are rounded one by one: a frame's value does not depend on
        the frames around it.
    """
    found = np.zeros((weights.shape[1], *noise.shape[1:]), np.float32)
    for number, one in enumerate(noise):
        found += weights[:, :, number].T[:, np.newaxis] * one
    return found
