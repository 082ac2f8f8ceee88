"""Audio files to float32 blocks, read strictly from front to back."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.decode_av import AvSource, av_installed
from jatsr_model.audio.decode_base import BLOCK_FRAMES, AudioFormat, Source, UndecodableError
from jatsr_model.audio.decode_probe import probe_decoders
from jatsr_model.audio.decode_soundfile import SoundFileSource
from shards.errors import TrackError

__all__ = ["BLOCK_FRAMES", "VERSION", "AudioFile", "AudioFormat", "open_audio", "probe_decoders"]

VERSION = 1

_MAX_CHANNELS = 8
_RATES = range(1000, 768_001)  # Hz; anything else is a damaged header
_SHORT_FRACTION, _SHORT_SECONDS = 0.01, 0.5  # short of the header by more than both: truncated
# The machine is at fault, not the file.
_ENVIRONMENT = frozenset(
    {errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EDQUOT, errno.EAGAIN}
)


class AudioFile:
    """An open file; ``blocks`` can be read once, open the file again for another pass."""

    def __init__(self, path: Path, source: Source) -> None:
        self.format = source.format
        self._path = path
        self._source = source

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Float32 ``(65536, channels)``, the last block shorter, none empty.

        Raises:
            TrackError: damaged, truncated, no samples, or a sample that is not a number.
        """
        decoded = 0
        try:
            for block in _recut(self._source.chunks(), BLOCK_FRAMES):
                self._expect_finite(block, decoded)
                decoded += len(block)
                yield block
        except UndecodableError as error:
            raise self._error(
                f"expected {_count(self.format.header_frames)}, found a decoding error after "
                f"{decoded}: {error}"
            ) from error
        except OSError as error:
            raise_unless_file(error, self._path)
        self._expect_complete(decoded)

    def _expect_finite(self, block: NDArray[np.float32], start: int) -> None:
        finite = np.isfinite(block)
        if finite.all():
            return
        frame, channel = np.argwhere(~finite)[0]
        position = start + int(frame)
        raise self._error(
            f"expected finite samples, found {block[frame, channel]} at frame {position} "
            f"({position / self.format.rate:.3f} s), channel {int(channel) + 1}",
            hint="export the file again; a plug-in or a converter wrote invalid samples",
        )

    def _expect_complete(self, decoded: int) -> None:
        promised = self.format.header_frames
        if not decoded:
            raise self._error(f"expected audio, found a header ({_count(promised)}) and no samples")
        missing = (promised or 0) - decoded
        if (
            missing > _SHORT_FRACTION * (promised or 0)
            and missing > _SHORT_SECONDS * self.format.rate
        ):
            raise self._error(
                f"expected {_count(promised)} as the header says, found {decoded} "
                f"({decoded / self.format.rate:.1f} of {(promised or 0) / self.format.rate:.1f} s)"
            )

    def _error(self, message: str, *, hint: str = "") -> TrackError:
        hint = hint or "the file is probably truncated or damaged: copy or download it again"
        return TrackError(f"{self._path.name}: {message}", hint=hint, stage="decode")


def open_audio(path: Path | str) -> AudioFile:
    """Open a file by its content; its name plays no part.

    libsndfile is tried first, then FFmpeg through PyAV where installed. Use as a context manager.

    Raises:
        TrackError: unreadable, empty, or not audio that an installed decoder knows.
        OSError: the machine is at fault (disk full, out of memory, too many open files).
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(1)
        if not head:
            raise TrackError(
                f"{path.name}: expected audio, found an empty file (0 bytes)",
                hint="copy or download it again, or delete it",
                stage="decode",
            )
        source = _open_source(path)
    except OSError as error:
        raise_unless_file(error, path)
    try:
        _expect_sane(source.format, path)
    except TrackError:
        source.close()
        raise
    return AudioFile(path, source)


def raise_unless_file(error: OSError, path: Path) -> NoReturn:
    """Raise ``error`` as it is if the machine is at fault, else as a TrackError.

    Raises:
        OSError: disk full, out of memory, too many open files.
        TrackError: anything else.
    """
    if error.errno in _ENVIRONMENT:
        raise error
    raise TrackError(
        f"{path.name}: expected a readable file, found: {error.strerror or error}",
        hint=f"check that {path} still exists and may be read by this user",
        stage="decode",
    ) from error


def _open_source(path: Path) -> Source:
    try:
        return SoundFileSource(path)
    except UndecodableError as error:
        reasons = [f"soundfile: {error}"]
    if av_installed():
        try:
            return AvSource(path)
        except UndecodableError as error:
            reasons.append(f"PyAV: {error}")
        hint = "it is no audio file whatever its name says, is damaged, or is encrypted (DRM)"
    else:
        hint = "AAC (.m4a, .mp4), WMA and others need PyAV: pip install 'jatsr[av]'"
    raise TrackError(
        f"{path.name}: expected audio, found a file that no installed decoder opens "
        f"({'; '.join(reasons)})",
        hint=hint,
        stage="decode",
    )


def _expect_sane(found: AudioFormat, path: Path) -> None:
    if not 1 <= found.channels <= _MAX_CHANNELS:
        raise TrackError(
            f"{path.name}: expected 1 to {_MAX_CHANNELS} channels, found {found.channels}",
            hint="mix it down first",
            stage="decode",
        )
    if found.rate not in _RATES:
        raise TrackError(
            f"{path.name}: expected a sample rate of {_RATES[0]} to {_RATES[-1]} Hz, "
            f"found {found.rate}",
            hint="the header is damaged: copy or download the file again",
            stage="decode",
        )


def _recut(chunks: Iterator[NDArray[np.float32]], frames: int) -> Iterator[NDArray[np.float32]]:
    """Cut ``(n, channels)`` chunks to ``frames`` frames each."""
    waiting: list[NDArray[np.float32]] = []
    available = 0
    for chunk in chunks:
        if len(chunk) == frames and not available:
            yield chunk
            continue
        waiting.append(chunk)
        available += len(chunk)
        if available >= frames:
            merged = np.concatenate(waiting)
            whole = available - available % frames
            for start in range(0, whole, frames):
                yield merged[start : start + frames]
            waiting, available = [merged[whole:]], available - whole
    if available:
        yield np.concatenate(waiting)


def _count(frames: int | None) -> str:
    return "audio" if frames is None else f"{frames} frames"
