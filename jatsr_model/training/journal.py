"""What a training writes down: for TensorBoard, as lines of JSON, and for who watches."""

from __future__ import annotations

import io
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor

from jatsr_model.training.run_folder import resumable
from shards.files import atomic_file

LOG = "log.jsonl"
LOSS_TAGS: Mapping[str, str] = MappingProxyType(
    {
        "mse": "Loss/MSE",
        "charbonnier": "Loss/Charbonnier",
        "frequency": "Loss/LatentPerc_FreqDomain",
        "multiscale": "Loss/LatentPerc_MultiScale",
        "consistency": "Loss/LatentPerc_Consistency",
        "levels": "Loss/Levels",
    }
)


def loss_tag(name: str) -> str:
    """Where a loss of ``jatsr_model.losses`` is shown."""
    return LOSS_TAGS.get(name, f"Loss/{name}")


class Bar(Protocol):
    """Shows where a training is."""

    def show(self, step: int, loss: float, audio_hours_per_hour: float) -> None:
        """Say how far it is."""

    def close(self) -> None:
        """End."""


class Journal:
    """Log of a run, which one process writes.

    What an earlier run wrote of steps after ``start`` counts no more: lines of JSON are cut off,
    and TensorBoard shows no events of it.

    Args:
        folder: of the run; event files and ``log.jsonl`` are in it.
        json_lines: whether ``log.jsonl`` is written.
        bar: for who watches.
        start: steps that were taken before.

    Raises:
        EnvironmentFailure: the disk is full; this goes for all methods.
    """

    def __init__(
        self, folder: Path, *, json_lines: bool = True, bar: Bar | None = None, start: int = 0
    ) -> None:
        self._folder, self._bar = folder, bar
        first = start + 1 if start else 0
        with self._errors(), ExitStack() as files:
            folder.mkdir(parents=True, exist_ok=True)
            _cut(folder / LOG, first)
            self._lines = files.enter_context((folder / LOG).open("ab")) if json_lines else None
            self._events = RecordWriter(files.enter_context(_event_file(folder).open("xb")))
            self._add(Event(file_version="brain.Event:2"))
            self._add(Event(step=first, session_log=SessionLog(status=SessionLog.START)))
            self._files = files.pop_all()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers down.

        Args:
            step: that they are of.
            values: by tag. What is not finite is null in JSON.
        """
        plain = {tag: float(value) for tag, value in values.items()}
        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in plain.items()]
        with self._errors():
            self._add(Event(step=step, summary=Summary(value=found)))
            if self._lines is not None:
                finite = {t: value if math.isfinite(value) else None for t, value in plain.items()}
                line = json.dumps({"step": step, "time": round(time.time(), 3), **finite})
                self._lines.write(line.encode() + b"\n")
                self._lines.flush()

    def audio(self, step: int, tag: str, wave: Tensor | NDArray[np.floating], rate: int) -> None:
        """Keep audio, to be heard in TensorBoard.

        Args:
            step: that it is of.
            tag: its name.
            wave: float ``[channels, samples]``; what is outside of -1 ... 1 is clipped.
            rate: samples per second.
        """
        sound = np.nan_to_num(np.asarray(wave, np.float32).T)
        file = io.BytesIO()
        soundfile.write(file, sound, rate, format="WAV", subtype="PCM_16")
        audio = Summary.Audio(
            sample_rate=rate,
            num_channels=sound.shape[1],
            length_frames=len(sound),
            encoded_audio_string=file.getvalue(),
            content_type="audio/wav",
        )
        with self._errors():
            self._add(
                Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, audio=audio)]))
            )

    def progress(self, step: int, loss: float, audio_hours_per_hour: float) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.show(step, loss, audio_hours_per_hour)

    def close(self) -> None:
        """Close files and bar; all is written already."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        with self._errors():
            self._files.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write(event.SerializeToString())
        self._events.flush()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with resumable(self._folder, f"writing the log in {self._folder}"):
            yield


def _event_file(folder: Path) -> Path:
    """A new name; TensorBoard reads files in the order of their names."""
    return folder / f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"


def _cut(path: Path, first: int) -> None:
    """Remove lines of steps from ``first`` on, and what is left of a line half written."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        if all(_is_before(line, first) for line in lines):
            return
        lines.seek(0)
        with atomic_file(path) as kept:
            kept.writelines(line for line in lines if _is_before(line, first))


def _is_before(line: bytes, first: int) -> bool:
    try:
        return line.endswith(b"\n") and bool(json.loads(line)["step"] < first)
    except (ValueError, KeyError, TypeError):
        return False
