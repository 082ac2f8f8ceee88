"""Encoded frames and descriptions of a track -> its part: samples as tar members, rows, hashes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from jatsr_model.codecs import Codec, frames_of
from pipeline.clock import StageClock
from pipeline.parts import Part, PartStore, RunWriter
from pipeline.records import Begin, Described, Dropped, EncodedEvent, Stored, TrackResult
from pipeline.stages.describe import ExcerptDescription
from shards.errors import TrackError, TrackSkipped
from shards.files import canonical_json, machine_errors
from shards.layout import FORMAT_VERSION, sample_key, stream_names
from shards.tar import npy_bytes, sample_digest, tar_run


class FrameQueue:
    """Frames of one lane, in order."""

    def __init__(self) -> None:
        self._pieces: deque[NDArray[Any]] = deque()
        self.frames = 0

    def push(self, piece: NDArray[Any]) -> None:
        """Append ``[rows, n]``."""
        self._pieces.append(piece)
        self.frames += piece.shape[1]

    def pop(self, frames: int) -> NDArray[Any]:
        """Take the oldest ``frames`` frames, ``[rows, frames]``."""
        whole = np.concatenate(list(self._pieces), axis=1)
        self._pieces = deque([whole[:, frames:].copy()])
        self.frames -= frames
        return whole[:, :frames]


@dataclass
class _OpenTrack:
    begin: Begin
    frames: int
    writer: RunWriter
    lanes: list[FrameQueue]
    descriptions: deque[ExcerptDescription] = field(default_factory=deque)
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Pack:
    """Events of many tracks -> parts on disk and one result per track."""

    name: ClassVar = "pack"
    placement: ClassVar = "cpu"
    version: ClassVar = 1

    codec: Codec
    store: PartStore
    variants: int
    channels: int
    excerpt_frames: int
    clock: StageClock

    def __call__(self, events: Iterator[EncodedEvent]) -> Iterator[TrackResult]:
        """Yield a result when a track's part is staged, or when it has none."""
        open_tracks: dict[str, _OpenTrack] = {}
        try:
            for event in events:
                with self.clock.stage(self.name), machine_errors("writing a part"):
                    if isinstance(event, Dropped):
                        yield self._drop(event, open_tracks)
                        continue
                    if isinstance(event, Begin):
                        open_tracks[event.track] = self._open(event)
                        continue
                    track = open_tracks.get(event.track)
                    if track is None:
                        continue  # what is left in the pool of a track that failed
                    if isinstance(event, Stored):
                        track.lanes[event.lane].push(event.frames)
                    elif isinstance(event, Described):
                        track.descriptions.append(event.description)
                    else:
                        result = self._finish(track)
                        del open_tracks[event.track]
                        yield result
                        continue
                    self._write_complete(track)
        finally:
            for track in open_tracks.values():
                track.writer.abandon()

    def _open(self, begin: Begin) -> _OpenTrack:
        lanes = (1 + self.variants) * self.channels
        return _OpenTrack(
            begin,
            frames_of(begin.samples, self.codec.hop),
            RunWriter(self.store, begin.track),
            [FrameQueue() for _ in range(lanes)],
        )

    def _write_complete(self, track: _OpenTrack) -> None:
        """Write every excerpt that has all its frames and its description."""
        while track.descriptions:
            start = len(track.rows) * self.excerpt_frames
            frames = min(self.excerpt_frames, track.frames - start)
            if frames <= 0 or min(lane.frames for lane in track.lanes) < frames:
                return
            self._write(track, track.descriptions.popleft(), start, frames)

    def _write(
        self, track: _OpenTrack, description: ExcerptDescription, start: int, frames: int
    ) -> None:
        index = len(track.rows)
        key = sample_key(track.begin.track, index)
        facts = track.begin.facts
        hop, rate = self.codec.hop, self.codec.sample_rate
        samples = min(frames * hop, track.begin.samples - start * hop)
        rolloff = [round(value, 6) for value in description.rolloff]
        names = stream_names(self.variants)
        metadata = {
            **facts,
            "format_version": FORMAT_VERSION,
            "key": key,
            "track": track.begin.track,
            "excerpt": index,
            "start_frame": start,
            "frames": frames,
            "samples": samples,
            "track_frames": track.frames,
            "track_samples": track.begin.samples,
            "codec": self.codec.name,
            "sample_rate": rate,
            "hop": hop,
            "channels": self.channels,
            "rolloff": dict(zip(names, rolloff, strict=True)),
        }
        caption = metadata.pop("caption")
        members = {
            "json": canonical_json(metadata),
            "txt": caption.encode("utf-8"),
            "spectrum.npy": npy_bytes(description.spectrum),
            "bands.npy": npy_bytes(description.bands),
        }
        lanes = [lane.pop(frames) for lane in track.lanes]
        for stream, name in enumerate(names):
            part = lanes[stream * self.channels : (stream + 1) * self.channels]
            members[f"{name}.npy"] = npy_bytes(np.stack(part))
        run = tar_run(key, members)
        track.rows.append(
            {
                "key": key,
                "track": track.begin.track,
                "excerpt": index,
                "offset": track.writer.append(run),
                "bytes": len(run),
                "digest": sample_digest(run),
                "start_frame": start,
                "frames": frames,
                "seconds": samples / rate,
                "rolloff": rolloff,
                "caption": caption,
                "caption_source": facts["caption_source"],
                "tags": facts["tags"],
                "loudness_lufs": facts["loudness_lufs"],
                "gain_db": facts["gain_db"],
            }
        )

    def _finish(self, track: _OpenTrack) -> TrackResult:
        self._write_complete(track)
        written = sum(row["frames"] for row in track.rows)
        if written != track.frames or track.descriptions:
            track.writer.abandon()
            raise AssertionError(
                f"track {track.begin.track}: {written} of {track.frames} frames were written"
            )
        result = TrackResult(
            track.begin.track,
            "ok",
            seconds=track.begin.samples / self.codec.sample_rate,
            excerpts=len(track.rows),
        )
        sha256 = track.writer.commit()
        self.store.save(Part(result, track.rows, track.writer.bytes, sha256))
        return result

    def _drop(self, event: Dropped, open_tracks: dict[str, _OpenTrack]) -> TrackResult:
        track = open_tracks.pop(event.task.track, None)
        if track is not None:
            track.writer.abandon()
        return dropped_result(event, self.store)


def dropped_result(event: Dropped, store: PartStore) -> TrackResult:
    """The result of a track without a part; a skip is staged, a failure is not: it is retried."""
    error = event.error
    if isinstance(error, TrackSkipped):
        result = TrackResult(event.task.track, "skipped", reason=error.message, hint=error.hint)
        store.save(Part(result))
        return result
    stage = error.stage if isinstance(error, TrackError) else ""
    return TrackResult(
        event.task.track, "failed", stage=stage, reason=error.message, hint=error.hint
    )
