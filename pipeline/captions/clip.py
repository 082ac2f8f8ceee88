"""The stretch of a track that the captioning model hears."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from jatsr_model.audio.decode import open_audio

CLIP_RATE = 16000  # Hz
CLIP_SECONDS = 30


def middle_clip(path: Path) -> NDArray[np.float32]:
    """The middle 30 s of a file, or all of a shorter one: mono, float32 ``[n]`` at 16 kHz.

    The file is decoded from its start, since seeking in lossy files is not exact, and only as
    far as needed. Where the header promises more audio than there is, the last 30 s are taken;
    where it promises nothing, the first.

    Raises:
        TrackError: the file cannot be decoded.
    """
    with open_audio(path) as audio:
        rate = audio.format.rate
        wanted = CLIP_SECONDS * rate
        start = max(0, ((audio.format.header_frames or 0) - wanted) // 2)
        kept: deque[NDArray[np.float32]] = deque()
        held = decoded = 0
        for block in audio.blocks():
            kept.append(block.mean(axis=1, dtype=np.float32))
            held, decoded = held + len(block), decoded + len(block)
            while held - len(kept[0]) >= wanted and decoded - held + len(kept[0]) <= start:
                held -= len(kept.popleft())
            if decoded >= start + wanted:
                break
    mono = np.concatenate(kept)
    first = min(max(0, start - (decoded - held)), max(0, held - wanted))
    clip: NDArray[np.float32] = soxr.resample(mono[first : first + wanted], rate, CLIP_RATE)
    return clip.astype(np.float32, copy=False)
