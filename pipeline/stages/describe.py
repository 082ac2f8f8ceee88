"""Roll-off and band envelopes of every excerpt, in one pass over the audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jatsr_model.codecs import frames_of
from pipeline.stages.stft import MagnitudeStft
from shards.envelope import (
    BANDS,
    BINS,
    HOP,
    SLOT_FRAMES,
    band_sums,
    encode_bands,
    encode_spectrum,
    rolloff,
)


@dataclass(frozen=True)
class ExcerptDescription:
    """What is stored of one excerpt beside its codes; formats in ``shards.envelope``."""

    index: int
    rolloff: tuple[float, ...]  # one per stream
    spectrum: NDArray[np.uint8]  # [streams, BINS]
    bands: NDArray[np.uint8]  # [streams, blocks, COLUMNS]


class Describer:
    """Describes excerpt ``k``, the codec frames ``[k * excerpt_frames, (k + 1) * excerpt_frames)``.

    A stream is one version of the track (high-res, each low-res variant); its channels are
    averaged. The transform's hop is the codec's, so frame numbers agree. A signal whose length
    is a multiple of the hop has one transform frame more than codec frames: it counts to the
    last excerpt. The result does not depend on how the audio is cut into blocks.

    Args:
        streams: number of streams.
        excerpt_frames: frames of every excerpt but the last.
    """

    def __init__(self, streams: int, excerpt_frames: int) -> None:
        self._streams = streams
        self._excerpt_frames = excerpt_frames
        self._stft = MagnitudeStft(streams)
        self._index = 0
        self._sums = _Sums(streams)

    def push(self, block: NDArray[np.float32]) -> list[ExcerptDescription]:
        """Take samples.

        Args:
            block: float32 ``[streams, channels, n]`` at the codec's rate.

        Returns:
            The excerpts completed by them, in order; may be empty.
        """
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        return [done for batch in self._stft.push(mono) for done in self._take(batch)]

    def flush(self, total_frames: int) -> list[ExcerptDescription]:
        """The remaining excerpts, after the last sample was pushed.

        Args:
            total_frames: codec frames of the track.

        Raises:
            ValueError: the samples pushed are not those of ``total_frames`` frames.
        """
        if total_frames != frames_of(self._stft.samples, HOP):
            raise ValueError(f"{self._stft.samples} samples are not {total_frames} frames")
        done: list[ExcerptDescription] = []
        for batch in self._stft.flush():
            seen = self._index * self._excerpt_frames + self._sums.frames
            own = batch[:, : total_frames - seen]
            done += self._take(own)
            self._sums.add_beyond(batch[:, own.shape[1] :])
        return [*done, self._finish()] if total_frames else done

    def _take(self, batch: NDArray[np.float32]) -> Iterator[ExcerptDescription]:
        while batch.shape[1]:
            # An excerpt is closed by a frame after it, not by its own last frame, which may
            # still be followed by the frame beyond the end.
            if self._sums.frames == self._excerpt_frames:
                yield self._finish()
            room = self._excerpt_frames - self._sums.frames
            self._sums.add(batch[:, :room])
            batch = batch[:, room:]

    def _finish(self) -> ExcerptDescription:
        sums, frames = self._sums, self._sums.frames
        description = ExcerptDescription(
            index=self._index,
            rolloff=tuple(rolloff(spectrum) for spectrum in sums.spectrum),
            spectrum=encode_spectrum(sums.spectrum, frames),
            bands=encode_bands(sums.slots(), frames),
        )
        self._index += 1
        self._sums = _Sums(self._streams)
        return description


class _Sums:
    """Running sums of one excerpt: float64, so that length costs no accuracy."""

    def __init__(self, streams: int) -> None:
        self.frames = 0
        self.spectrum = np.zeros((streams, BINS))
        self._slots: list[NDArray[np.float64]] = []
        self._streams = streams

    def add(self, magnitudes: NDArray[np.float32]) -> None:
        """Append frames, float32 ``[streams, t, BINS]``."""
        while magnitudes.shape[1]:
            filled = self.frames % SLOT_FRAMES
            if filled == 0:
                self._slots.append(np.zeros((self._streams, BANDS)))
            room = SLOT_FRAMES - filled
            self.frames += min(room, magnitudes.shape[1])
            self._accumulate(magnitudes[:, :room])
            magnitudes = magnitudes[:, room:]

    def add_beyond(self, magnitudes: NDArray[np.float32]) -> None:
        """Add frames after the last codec frame to the last slot."""
        if magnitudes.shape[1]:
            self._accumulate(magnitudes)

    def slots(self) -> NDArray[np.float64]:
        """Band sums, ``[streams, slots, BANDS]``."""
        return np.stack(self._slots, axis=1)

    def _accumulate(self, magnitudes: NDArray[np.float32]) -> None:
        summed = magnitudes.sum(axis=1, dtype=np.float32).astype(np.float64)
        self.spectrum += summed
        self._slots[-1] += band_sums(summed)
