"""The roll-off of crops, recovered from the envelopes that a dataset stores."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.envelope import (
    BAND_BINS,
    BANDS,
    BINS,
    BLOCK_FRAMES,
    COLUMNS,
    EDGES,
    GROUP_STARTS,
    GROUPS,
    ROLLOFF_SHARE,
    SLOT_FRAMES,
    SLOTS,
    blocks_of,
    dequantise,
)
from shards.errors import FormatError

_GROUP_BANDS = [slice(*ends) for ends in pairwise((*GROUP_STARTS, BANDS))]
_STARTS = np.array(EDGES[:-1])
_WIDEST = np.arange(int(BAND_BINS.max()))
# A tiny weight keeps the division defined where a block's slots are all below the scale.
_TRACE = 1e-12


def crop_rolloff(
    spectrum: NDArray[np.uint8],
    bands: NDArray[np.uint8],
    start: int,
    frames: int,
    excerpt_frames: int,
) -> float:
    """Roll-off of the frames ``[start, start + frames)`` of an excerpt, one stream.

    Args:
        spectrum: uint8 ``[BINS]``.
        bands: uint8 ``[blocks_of(excerpt_frames), COLUMNS]``.
        start: first frame of the crop.
        frames: frames of the crop, at least 1.
        excerpt_frames: codec frames of the excerpt.

    Returns:
        A value in [0, 1), see ``crop_rolloffs``.

    Raises:
        FormatError: the arrays do not have the shapes that ``excerpt_frames`` asks for.
        ValueError: the crop does not lie inside the excerpt.
    """
    expected = (blocks_of(excerpt_frames), COLUMNS)
    if spectrum.shape != (BINS,) or bands.shape != expected:
        raise FormatError(
            f"an envelope of {excerpt_frames} frames has shapes ({BINS},) and {expected}, "
            f"found {spectrum.shape} and {bands.shape}",
            hint="the dataset is damaged or of another format version; run `jatsr verify` on it",
        )
    if frames < 1 or start < 0 or start + frames > excerpt_frames:
        raise ValueError(f"crop [{start}, {start + frames}) outside [0, {excerpt_frames})")
    touched = bands[touched_blocks(start, frames)]
    columns = (np.array([value]) for value in (start, frames, excerpt_frames))
    return float(crop_rolloffs(spectrum[None], touched[None], *columns)[0])


def touched_blocks(start: int, frames: int) -> slice:
    """The rows of ``bands`` that a crop touches."""
    return slice(start // BLOCK_FRAMES, (start + frames - 1) // BLOCK_FRAMES + 1)


def crop_rolloffs(
    spectra: NDArray[np.uint8],
    bands: NDArray[np.uint8],
    start: NDArray[Any],
    frames: NDArray[Any],
    excerpt_frames: NDArray[Any],
) -> NDArray[np.float64]:
    """Roll-offs of N crops at once.

    The band sums of a crop come from its blocks, where the slots tell how much of a cut block
    lies inside. They say in which band the share is reached; inside it the sum is spread in the
    proportions of the excerpt's spectrum.

    Args:
        spectra: uint8 ``[N, BINS]``.
        bands: uint8 ``[N, K, COLUMNS]``, the rows of ``touched_blocks``, then zeros.
        start: integer ``[N]``, first frame of each crop.
        frames: integer ``[N]``, at least 1.
        excerpt_frames: integer ``[N]``.

    Returns:
        float64 ``[N]`` in [0, 1): on music and crops of 512 frames within 0.01 of the exact
        roll-off of those frames in 99 of 100 cases, 0.002 on average.
    """
    sums = _band_sums(bands, start[:, None], frames[:, None], excerpt_frames[:, None])
    cumulated = np.cumsum(sums, axis=1)
    target = ROLLOFF_SHARE * cumulated[:, -1]
    band = np.minimum((cumulated < target[:, None]).sum(axis=1), BANDS - 1)
    row = np.arange(len(band))
    bins = np.minimum(_STARTS[band, None] + _WIDEST, BINS - 1)
    inside = BAND_BINS[band, None] > _WIDEST
    shape = np.where(inside, dequantise(spectra[row[:, None], bins]), 0.0)
    within = shape.sum(axis=1, keepdims=True)
    # A band that the excerpt's spectrum holds to be empty is spread evenly.
    share = np.where(within > 0.0, shape, inside) / np.where(
        within > 0.0, within, inside.sum(1, keepdims=True)
    )
    before = cumulated[row, band] - sums[row, band]
    reached = before[:, None] + sums[row, band, None] * np.cumsum(share, axis=1)
    below = _STARTS[band] + ((reached < target[:, None]) & inside).sum(axis=1)
    return np.where(target > 0.0, np.maximum(below - 1, 0) / BINS, 0.0)


def _band_sums(
    bands: NDArray[np.uint8], start: NDArray[Any], frames: NDArray[Any], excerpt: NDArray[Any]
) -> NDArray[np.float64]:
    """Magnitude sums over crop and bins, float64 ``[N, BANDS]``; lengths are ``[N, 1]``."""
    count, blocks = bands.shape[:2]
    slots = start // BLOCK_FRAMES * SLOTS + np.arange(blocks * SLOTS)
    begins = slots * SLOT_FRAMES
    lengths = np.clip(excerpt - begins, 0, SLOT_FRAMES)
    held = np.minimum(begins + lengths, start + frames) - np.maximum(begins, start)
    values = dequantise(bands)
    level = values[..., BANDS:].reshape(count, blocks, GROUPS, SLOTS) + _TRACE
    lengths = lengths.reshape(count, blocks, 1, SLOTS)
    inside = (level * np.maximum(held, 0).reshape(lengths.shape)).sum(axis=-1)
    whole = (level * lengths).sum(axis=-1)
    weight = inside / np.where(whole > 0.0, whole, 1.0) * lengths.sum(axis=-1)
    total = np.empty((count, BANDS))
    for group, bands_of in enumerate(_GROUP_BANDS):
        held_by = weight[:, None, :, group]  # [N, 1, K] @ [N, K, bands]
        total[:, bands_of] = np.matmul(held_by, values[..., bands_of])[:, 0]
    return total * BAND_BINS
