"""Sound files, written block by block.

What is promised of a file: it appears whole under its name or not at all; it has exactly as many
samples as announced; it does not clip. Integers and lossy codecs end at full scale, so peaks beyond
are lowered by a look-ahead limiter, which leaves everything else as it is and says how much it did.
Floating point has no such end and is written as it comes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, Fifo
from jatsr_model.audio.decode_soundfile import VORBIS_ORDER
from jatsr_model.audio.tag_errors import PARSER_ERRORS
from jatsr_model.upsampling.dither import quantise
from jatsr_model.upsampling.limiter import Limiter
from jatsr_model.upsampling.metadata import Metadata, write_metadata
from jatsr_model.upsampling.output_format import OutputFormat
from jatsr_model.upsampling.settle import settle
from shards.errors import EnvironmentFailure, TrackError
from shards.files import atomic_file

_PIECE = 1 << 14  # samples of one write: what lossy codecs make of a signal depends on it


@dataclass(frozen=True)
class AudioSpec:
    """A file to be written.

    Attributes:
        format: how.
        rate: Hz, one that the format has: see ``OutputFormat.file_rate``.
        channels: C, in WAV order.
        samples: per channel.
        seed: of the dither.
        metadata: tags and pictures.
    """

    format: OutputFormat
    rate: int
    channels: int
    samples: int
    seed: int = 0
    metadata: Metadata = field(default_factory=Metadata)


@contextmanager
def audio_writer(path: Path, spec: AudioSpec) -> Iterator[AudioWriter]:
    """Write a file; it appears when the block ends without an error.

    Raises:
        EnvironmentFailure: it cannot be written (disk full, no such folder).
        TrackError: its name is too long.
        ValueError: more or fewer samples than announced.
    """
    with _file(path) as file:
        with _disk(path):
            with suppress(FileNotFoundError):
                path.lstat()  # a name that cannot be is known before the work, not at its end
            how = spec.format.libsndfile(spec.rate, spec.channels, spec.samples)
            sound = sf.SoundFile(file.fileno(), "w", closefd=False, **how)
        try:
            writer = AudioWriter(path, spec, sound)
            yield writer
            writer._finish()
        finally:
            with _disk(path):
                sound.close()
        with _disk(path), os.fdopen(os.dup(file.fileno()), "r+b") as whole:
            settle(whole, spec.format.container, spec.channels)
            writer._describe(whole)


class AudioWriter:
    """Takes blocks of any length; made by ``audio_writer``.

    Attributes:
        note: what went not quite as wished, for the ledger; empty if nothing.
    """

    def __init__(self, path: Path, spec: AudioSpec, file: sf.SoundFile) -> None:
        self.note = ""
        self._path, self._spec, self._file = path, spec, file
        self._limiter = Limiter(spec.rate, spec.channels, spec.format.top)
        order = VORBIS_ORDER.get(spec.channels) if spec.format.is_lossy else None
        self._order = None if order is None else np.argsort(order)
        self._waiting = Fifo()
        self._taken = 0
        self._written = 0

    @property
    def rate(self) -> int:
        """Hz, of the file."""
        return self._spec.rate

    @property
    def limited_samples(self) -> int:
        """Samples (per channel) that the limiter has lowered so far."""
        return self._limiter.limited

    @property
    def limited_db(self) -> float:
        """By how much at most; 0 or negative."""
        return float(20 * np.log10(self._limiter.lowest_gain))

    def write(self, block: Block) -> None:
        """Append float32 ``(C, n)``."""
        self._taken += block.shape[1]
        self._wait(self._limiter.push(block) if self._spec.format.is_bounded else block)

    def _wait(self, block: Block) -> None:
        self._waiting.push(block)
        while self._waiting.available >= _PIECE:
            self._put(self._waiting.take(_PIECE))

    def _finish(self) -> None:
        if self._spec.format.is_bounded:
            self._wait(self._limiter.flush())
        if self._waiting.available:
            self._put(self._waiting.take(self._waiting.available))
        if self._taken != self._spec.samples or self._written != self._taken:
            raise ValueError(
                f"{self._path.name}: {self._spec.samples} samples were announced, "
                f"{self._taken} came, {self._written} were written"
            )

    def _put(self, block: Block) -> None:
        bits, frames = self._spec.format.bits, block
        if self._order is not None:
            frames = block[self._order]
        samples: NDArray[np.float32] | NDArray[np.int32] = frames
        if bits is not None:
            samples = quantise(frames, bits, self._written, self._spec.seed)
        with _disk(self._path):
            self._file.write(samples.T)
        self._written += block.shape[1]

    def _describe(self, file: IO[bytes]) -> None:
        metadata = self._spec.metadata
        self.note = metadata.note
        if not metadata.fields and not metadata.pictures:
            return
        try:
            write_metadata(file, self._spec.format.container, metadata)
        except OSError:
            raise
        except PARSER_ERRORS as error:
            self.note = f"tags cannot be written: {type(error).__name__}: {error}"


@contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    """``atomic_file``, whose own errors (and not those of the caller's block) are made readable."""
    manager = atomic_file(path)
    with _disk(path):
        file = manager.__enter__()
    try:
        yield file
    except BaseException as error:
        manager.__exit__(type(error), error, error.__traceback__)
        raise
    with _disk(path):
        manager.__exit__(None, None, None)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except (sf.LibsndfileError, AssertionError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise TrackError(
                f"OUT {path}: cannot be written: the name is too long",
                hint="give the input a shorter name",
                stage="write",
            ) from error
        # soundfile asserts that all frames were written.
        raise EnvironmentFailure(
            f"OUT {path}: cannot be written: {error or 'samples are missing'}",
            hint="name a folder that you may write to, on a disk with room; then run it again",
        ) from error
