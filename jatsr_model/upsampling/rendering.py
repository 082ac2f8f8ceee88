"""One file: what is asked for, how its output comes about, and what became of it."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jatsr_model.upsampling.audio_out import AudioSpec, AudioWriter, audio_writer
from jatsr_model.upsampling.sound import Sound
from jatsr_model.upsampling.splice import Crossover
from jatsr_model.upsampling.track import Extended, PassedThrough
from shards.files import sha256_file

Status = Literal["ok", "passed-through", "kept", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A file to be upsampled.

    Attributes:
        source: the input.
        target: the output.
        digest: sha256 of the input.
    """

    source: Path
    target: Path
    digest: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a file.

    Attributes:
        status: ``ok`` (its upper band was generated), ``passed-through``, ``kept`` (its output was
            there already), ``skipped``, ``failed``.
        reason: why, if not ``ok``.
        hint: what can be done about it.
        facts: of input and output; JSON-ready.
    """

    status: Status
    reason: str = ""
    hint: str = ""
    facts: dict[str, Any]


class Rendering:
    """A file between its first block and its last.

    Args:
        job: what is asked for.
        sound: what was measured.
        began: when, by the monotonic clock.
        over: where the generated band begins; None if nothing is generated.
        reason: why nothing is.

    Attributes:
        track: on its way.
        is_read: whether the whole input was.
    """

    track: Extended | PassedThrough

    def __init__(
        self, job: Job, sound: Sound, began: float, over: Crossover | None, reason: str
    ) -> None:
        self.job, self.sound, self.is_read = job, sound, False
        self._began, self._over, self._reason = began, over, reason
        self._stack = ExitStack()

    def open(self, spec: AudioSpec) -> AudioWriter:
        """Begin the output."""
        self._spec = spec
        self._writer = self._stack.enter_context(audio_writer(self.job.target, spec))
        return self._writer

    def finish(self) -> Result:
        """The output appears."""
        self._stack.close()
        return Result(
            status="ok" if self._over else "passed-through",
            reason=self._reason,
            facts=self._facts(),
        )

    def abandon(self) -> None:
        """The output never appears."""
        error = _Abandoned()
        with suppress(_Abandoned):
            if not self._stack.__exit__(_Abandoned, error, None):
                raise error

    def _facts(self) -> dict[str, Any]:
        facts, writer, spec = self.sound.facts, self._writer, self._spec
        return {
            "rate": self.sound.rate,
            "channels": self.sound.channels,
            "samples": facts.samples,
            "seconds": round(facts.samples / self.sound.rate, 3),
            "bandwidth_hz": round(facts.bandwidth.hertz, 1),
            "crossover_low_hz": None if self._over is None else round(self._over.low, 1),
            "crossover_hz": None if self._over is None else round(self._over.high, 1),
            "out_rate": spec.rate,
            "out_samples": spec.samples,
            "out_bytes": self.job.target.stat().st_size,
            "out_sha256": sha256_file(self.job.target),
            "limited_db": round(writer.limited_db, 2) if writer.limited_samples else 0.0,
            "note": writer.note,
            "took_seconds": round(time.monotonic() - self._began, 3),
        }


class _Abandoned(Exception):
    """Ends a writer without its file appearing."""
