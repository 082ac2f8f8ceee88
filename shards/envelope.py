"""Roll-off, and the compact description from which ``crop_rolloff`` recovers that of any crop.

This is part of dataset format version 1. Everything starts from the magnitudes of a short-time
Fourier transform on the codec's grid (``FFT_SIZE``, ``HOP``). Of every excerpt and stream two
``uint8`` arrays are kept:

* ``spectrum [BINS]``: the mean magnitude of each bin over the excerpt's frames;
* ``bands [ceil(frames / BLOCK_FRAMES), COLUMNS]``: one row per block of frames. Columns
  ``[0, BANDS)`` are the mean magnitude per bin and frame of each band over the block. The rest
  are ``GROUPS`` runs of ``SLOTS`` columns: the mean magnitude per bin and frame of the bands of
  one group over one slot (a quarter of the block).

The slots say *when* inside a block the sound was; without them a crop that cuts a block would
get a share of a drum stroke that it does not contain. All values are on one logarithmic scale,
see ``quantise``. Together that is about 60 bytes per second and stream.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

FFT_SIZE = 2048
HOP = 512
BINS = FFT_SIZE // 2 + 1
ROLLOFF_SHARE = 0.985

BLOCK_FRAMES = 64
SLOTS = 4
SLOT_FRAMES = BLOCK_FRAMES // SLOTS
BANDS = 24
GROUP_STARTS = (0, 12)  # first band of each group; the second begins near 7.8 kHz
GROUPS = len(GROUP_STARTS)
COLUMNS = BANDS + GROUPS * SLOTS

STEP_DB = 0.625
ORIGIN_DB = -96.0  # level of code 0, which stands for nothing at all

# Band b is [EDGES[b], EDGES[b + 1]): floor(BINS * (b / BANDS) ** 1.5), in integers, so that
# every machine has the same table.
EDGES: tuple[int, ...] = tuple(isqrt(BINS**2 * b**3 // BANDS**3) for b in range(BANDS + 1))


def rolloff(spectrum: NDArray[np.floating]) -> float:
    """The highest bin below which the cumulated magnitude is still under 98.5 %.

    The brightness measure of SAGA-SR: magnitudes (not powers) summed over time, cumulated over
    the bins; the last bin whose cumulated value is below the share, divided by the bin count.

    Args:
        spectrum: ``[BINS]``, magnitudes summed (or averaged) over time; or of other bins, from 0 to
            the Nyquist frequency.

    Returns:
        A value in [0, 1); 0 for silence.
    """
    cumulated = np.cumsum(spectrum, dtype=np.float64)
    total = float(cumulated[-1])
    if not total > 0.0:
        return 0.0
    below = int(np.searchsorted(cumulated, ROLLOFF_SHARE * total, side="left"))
    return max(below - 1, 0) / len(spectrum)


def quantise(magnitude: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Mean magnitude per bin and frame -> code; the level in dB is ``ORIGIN_DB + STEP_DB * code``.

    Code 255 is 63.4 dB; no signal within [-1, 1] exceeds 60.2 dB (a constant one in bin 0). Code
    1 is -95.4 dB; the noise of 16-bit rounding lies near -67 dB. The scale reaches lower than
    music needs because the roll-off of a fade-out is that of its noise. Half a step is 0.3 dB,
    which is far below the error from the time grid.
    """
    with np.errstate(divide="ignore"):
        code = (20.0 * np.log10(magnitude.astype(np.float64)) - ORIGIN_DB) / STEP_DB
    return np.clip(np.rint(code), 0, 255).astype(np.uint8)


def dequantise(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Inverse of ``quantise`` up to half a step; code 0 is 0."""
    return _AMPLITUDES[codes]


def blocks_of(frames: int) -> int:
    """Rows of ``bands`` of an excerpt of ``frames`` frames."""
    return -(-frames // BLOCK_FRAMES)


def band_sums(magnitudes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sum over the bins of each band: ``[..., BINS]`` -> float64 ``[..., BANDS]``."""
    return np.add.reduceat(magnitudes.astype(np.float64), EDGES[:-1], axis=-1)


def encode_spectrum(summed: NDArray[np.float64], frames: int) -> NDArray[np.uint8]:
    """``spectrum`` of an excerpt.

    Args:
        summed: float64 ``[..., BINS]``, magnitudes summed over the excerpt.
        frames: codec frames of the excerpt, at least 1.
    """
    return quantise(summed / frames)


def encode_bands(slot_sums: NDArray[np.float64], frames: int) -> NDArray[np.uint8]:
    """``bands`` of an excerpt.

    Args:
        slot_sums: float64 ``[..., slots, BANDS]``: for each run of ``SLOT_FRAMES`` frames,
            ``ceil(frames / SLOT_FRAMES)`` in all, the magnitudes summed over frames and bins.
        frames: codec frames of the excerpt, at least 1.

    Returns:
        uint8 ``[..., blocks_of(frames), COLUMNS]``.
    """
    slot_frames, block_frames = _lengths(frames)
    lead, blocks = slot_sums.shape[:-2], len(block_frames)
    padded = np.zeros((*lead, blocks * SLOTS, BANDS))
    padded[..., : slot_sums.shape[-2], :] = slot_sums
    bands = padded.reshape(*lead, blocks, SLOTS, BANDS)
    groups = np.add.reduceat(padded, GROUP_STARTS, axis=-1) / _GROUP_BINS
    groups /= np.maximum(slot_frames, 1)[:, None]
    times = np.moveaxis(groups.reshape(*lead, blocks, SLOTS, GROUPS), -1, -2)
    means = bands.sum(axis=-2) / (BAND_BINS * block_frames[:, None])
    values = np.concatenate([means, times.reshape(*lead, blocks, GROUPS * SLOTS)], axis=-1)
    return quantise(values)


def _lengths(frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames in each slot and in each block of an excerpt; the last ones may be short."""
    blocks = blocks_of(frames)
    slots = np.clip(frames - np.arange(blocks * SLOTS) * SLOT_FRAMES, 0, SLOT_FRAMES)
    return slots, slots.reshape(blocks, SLOTS).sum(axis=1)


def _amplitudes() -> NDArray[np.float64]:
    table = np.power(10.0, (ORIGIN_DB + STEP_DB * np.arange(256, dtype=np.float64)) / 20.0)
    table[0] = 0.0
    return table


_AMPLITUDES = _amplitudes()
BAND_BINS = np.diff(np.array(EDGES))
_GROUP_BINS = np.add.reduceat(BAND_BINS, GROUP_STARTS)
