"""``silence.npy``: what the codec stores of digital silence far from any sound, one frame."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.errors import FormatError
from shards.layout import SILENCE
from shards.manifest import Manifest
from shards.storage import StoreLike, open_store
from shards.tar import load_npy


def read_silence(dataset: StoreLike, manifest: Manifest) -> NDArray[Any]:
    """The stored frame of silence, ``[stored_rows, 1]`` of ``stored_dtype``: what pads excerpts.

    Args:
        dataset: its place.
        manifest: of the dataset.

    Raises:
        FormatError: the file is missing, or is not the one that was published.
    """
    store = open_store(dataset)
    where = store.join(SILENCE)
    try:
        data = store.read(SILENCE)
    except (FileNotFoundError, NotADirectoryError):
        raise _error(f"{where}: expected a frame of silence, found none") from None
    expected, found = manifest.files.get(SILENCE, "none"), hashlib.sha256(data).hexdigest()
    if found != expected:
        raise _error(f"{where}: expected sha256 {expected[:12]}, found {found[:12]}")
    frame = load_npy(data)
    shape = (int(manifest.codec["stored_rows"]), 1)
    dtype = np.dtype(manifest.codec["stored_dtype"])
    if frame.shape != shape or frame.dtype != dtype:
        raise _error(f"{where}: expected {dtype} {shape}, found {frame.dtype} {frame.shape}")
    return frame


def _error(message: str) -> FormatError:
    return FormatError(
        message, hint="run the same jatsr build command again: it asks the codec for the frame"
    )
