"""Decoding with libsndfile: WAV, FLAC, AIFF, Ogg Vorbis, Opus, MP3 and more."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from jatsr_model.audio.containers import Promise, end_of_id3, ends_in_last_page, read_promise
from jatsr_model.audio.decode_base import BLOCK_FRAMES, AudioFormat, UndecodableError

_UNKNOWN = 1 << 62  # libsndfile reports about 2^63 frames where it cannot know
_PIPE_BYTES = 1 << 16

# Vorbis and Opus number their channels differently; these pick WAV order.
VORBIS_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}


class SequentialFile(sf.SoundFile):  # type: ignore[misc]
    """A sound file that is never told to seek.

    python-soundfile seeks to the current position after every read. libmpg123 then restarts its
    decoder without the bit reservoir, so that an MP3 read in blocks differs audibly from the same
    file read at once (errors up to 0.1 of full scale were measured).
    """

    def seekable(self) -> bool:
        """Always false."""
        return False


class SoundFileSource:
    """libsndfile at work on one file.

    MP3 comes through a pipe: given a file, libsndfile estimates the length of an MP3 without a
    length tag from its first frames and stops there, at a third of a variable-rate file for
    example; given a pipe it decodes to the end.

    Raises:
        UndecodableError: libsndfile does not know the format or finds it damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        self._path = path
        self._pipe: _Pipe | None = None
        try:
            self._file, promise = self._open(path)
        except sf.LibsndfileError as error:
            self._stack.close()
            raise UndecodableError(error.error_string) from error
        except BaseException:
            self._stack.close()
            raise
        self.format = AudioFormat(
            rate=self._file.samplerate,
            channels=self._file.channels,
            decoder="soundfile",
            container=self._file.format,
            subtype=self._file.subtype,
            header_frames=_promised(self._file, promise),
        )

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """See ``Source.chunks``."""
        order = VORBIS_ORDER.get(self.format.channels) if self._is_ogg() else None
        while True:
            try:
                frames = self._file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
            except sf.LibsndfileError as error:
                raise UndecodableError(error.error_string) from error
            if self._pipe is not None:
                self._pipe.raise_failure()
            if not len(frames):
                if self._is_ogg() and not ends_in_last_page(self._path):
                    raise UndecodableError("the stream stops before its last page")
                return
            yield frames if order is None else frames[:, order]

    def close(self) -> None:
        """See ``Source.close``."""
        self._stack.close()

    def _is_ogg(self) -> bool:
        return self.format.subtype in ("VORBIS", "OPUS")

    def _open(self, path: Path) -> tuple[SequentialFile, Promise | None]:
        # By descriptor: libsndfile would otherwise also judge by the name's ending.
        raw = self._stack.enter_context(path.open("rb", buffering=0))
        promise = read_promise(raw)
        if promise is not None and promise.unstated_data:
            patch = {promise.size_field: b"\xff\xff\xff\xff"}
            return self._through_pipe(path, patch), promise
        raw.seek(0)
        file = SequentialFile(raw.fileno(), closefd=False)
        self._stack.callback(file.close)
        if file.subtype.startswith("MPEG"):
            return self._through_pipe(path, {}), None
        return file, promise

    def _through_pipe(self, path: Path, patch: dict[int, bytes]) -> SequentialFile:
        self._pipe = _Pipe(path, patch)
        self._stack.callback(self._pipe.close)
        file = SequentialFile(self._pipe.fd, closefd=False)
        self._stack.callback(file.close)
        return file


class _Pipe:
    """A file's bytes through a pipe, some of them replaced.

    ID3 tags in front are left out: from a pipe, libsndfile does not look for the format behind one
    that holds a picture.

    Args:
        path: the file.
        patch: replacement bytes by offset in the file.
    """

    def __init__(self, path: Path, patch: dict[int, bytes]) -> None:
        self._path, self._patch = path, patch
        self._failure: OSError | None = None
        self.fd, self._inlet = os.pipe()
        self._thread = threading.Thread(target=self._feed, name="audio-pipe", daemon=True)
        self._thread.start()

    def raise_failure(self) -> None:
        """Raise what reading the file ran into, if anything."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop feeding."""
        os.close(self.fd)
        self._thread.join()

    def _feed(self) -> None:
        try:
            with os.fdopen(self._inlet, "wb", buffering=0) as inlet, self._path.open("rb") as file:
                position = end_of_id3(file)
                file.seek(position)
                while data := bytearray(file.read(_PIPE_BYTES)):
                    self._apply_patch(data, position)
                    position += len(data)
                    view = memoryview(data)
                    while view:
                        view = view[inlet.write(view) :]
        except BrokenPipeError:
            return  # the reader has what it wants
        except OSError as error:
            self._failure = error

    def _apply_patch(self, data: bytearray, position: int) -> None:
        for start, replacement in self._patch.items():
            for index, value in enumerate(replacement, start - position):
                if 0 <= index < len(data):
                    data[index] = value


def _promised(file: SequentialFile, promise: Promise | None) -> int | None:
    if promise is not None:
        return promise.frames(file.frames)
    return file.frames if file.frames < _UNKNOWN else None
