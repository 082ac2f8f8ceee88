"""What decoders have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK_FRAMES = 65536


@dataclass(frozen=True)
class AudioFormat:
    """What a file is, as found by decoding.

    Attributes:
        rate: Hz, of the decoded samples.
        channels: 1 to 8, in WAV order (front left, front right, centre, LFE, back, side).
        decoder: which library decodes it.
        container: its name for the container, such as ``WAV`` or ``mov,mp4,m4a,3gp,3g2,mj2``.
        subtype: its name for the coding, such as ``PCM_16`` or ``aac``.
        header_frames: frames that the header promises; None where it promises nothing exact.
    """

    rate: int
    channels: int
    decoder: Literal["soundfile", "pyav"]
    container: str
    subtype: str
    header_frames: int | None


class Source(Protocol):
    """A decoder at work on one file."""

    format: AudioFormat

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """Float32 ``(n, channels)``, any ``n``."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class UndecodableError(Exception):
    """A decoder cannot make sense of a file; ``open_audio`` turns it into a TrackError."""
