"""Decoding with FFmpeg through PyAV, for what libsndfile does not open (AAC in .m4a and others)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_model.audio.decode_base import AudioFormat, UndecodableError


def av_installed() -> bool:
    """Whether PyAV can be imported."""
    return importlib.util.find_spec("av") is not None


# Neither playlists nor scripts, which would bring in other files under this file's name.
_CONTAINERS_ONLY = {
    "protocol_whitelist": "file",
    "format_whitelist": "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,iff,"
    "matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,ogg,oma,spx,tak,tta,voc,w64,wav,wv,xwma",
}


class AvSource:
    """FFmpeg at work on the first audio stream of one file.

    The format is that of the first decoded frame: the header of HE-AAC states half its rate.

    Raises:
        UndecodableError: FFmpeg does not know the format, or there is no audio in it.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import av

        self._error: type[Exception] = av.error.FFmpegError
        try:
            self._container = av.open(str(path), mode="r", options=_CONTAINERS_ONLY)
        except self._error as error:
            raise _translated(error) from error
        try:
            self._frames, self.format, layout = self._start()
        except BaseException:
            self._container.close()
            raise
        self._packer = av.AudioResampler(format="flt", layout=layout, rate=self.format.rate)

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """See ``Source.chunks``."""
        for frame in self._decoded():
            found = (frame.layout.nb_channels, frame.sample_rate)
            if found != (self.format.channels, self.format.rate):
                raise UndecodableError(
                    f"the format changes in mid-stream, from {self.format.channels} channels at "
                    f"{self.format.rate} Hz to {found[0]} at {found[1]} Hz"
                )
            yield from self._interleaved(frame)
        yield from self._interleaved(None)

    def close(self) -> None:
        """See ``Source.close``."""
        self._container.close()

    def _start(self) -> tuple[Iterator[Any], AudioFormat, Any]:
        if not self._container.streams.audio:
            raise UndecodableError("no audio stream")
        stream = self._container.streams.audio[0]
        frames = iter(self._container.decode(stream))
        try:
            first = next(frames, None)
        except self._error as error:
            raise _translated(error) from error
        if first is None:
            raise UndecodableError("an audio stream without samples")
        container = self._container.format.name
        promised = None
        if "mp4" in container and stream.duration:  # elsewhere the duration is an estimate
            promised = round(stream.duration * stream.time_base * first.sample_rate)
        found = AudioFormat(
            rate=first.sample_rate,
            channels=first.layout.nb_channels,
            decoder="pyav",
            container=container,
            subtype=stream.codec_context.name,
            header_frames=promised,
        )
        return chain([first], frames), found, first.layout

    def _interleaved(self, frame: Any) -> Iterator[NDArray[np.float32]]:
        # PyAV overruns its list of planes with 8 planar channels and crashes; one plane is safe.
        for part in self._packer.resample(frame):
            yield part.to_ndarray().reshape(-1, self.format.channels)

    def _decoded(self) -> Iterator[Any]:
        try:
            yield from self._frames
        except self._error as error:
            raise _translated(error) from error


def _translated(error: Exception) -> Exception:
    """An operating-system error stays one; the rest means the file cannot be decoded."""
    if isinstance(error, OSError) and not isinstance(error, ValueError | EOFError):
        return OSError(error.errno, error.strerror)
    return UndecodableError(str(error))
