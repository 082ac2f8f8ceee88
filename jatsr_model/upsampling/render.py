"""Files to upsampled files: measured first, then rendered block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from jatsr_model.audio.decode import open_audio
from jatsr_model.audio.resample import output_length
from jatsr_model.upsampling.audio_out import AudioSpec
from jatsr_model.upsampling.inspection import inspect_file
from jatsr_model.upsampling.metadata import UPSAMPLED, Metadata, read_metadata
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.output_format import OutputFormat
from jatsr_model.upsampling.pool import Pool
from jatsr_model.upsampling.prompt import embedded_prompt
from jatsr_model.upsampling.rendering import Job, Rendering, Result
from jatsr_model.upsampling.settings import RATE, Settings
from jatsr_model.upsampling.sound import Sound, crossover, expect_same
from jatsr_model.upsampling.splice import Crossover
from jatsr_model.upsampling.track import Extended, PassedThrough
from jatsr_model.upsampling.windows import Layout, layout_for
from shards.errors import ConfigError, TrackError
from shards.files import machine_errors

Advance = Callable[[float], None]
Settled = tuple[Job, Result]

_PASSES = 2  # over a file: one that measures, one that upsamples
_RELIEF = "a smaller --batch-size or --window-frames"


class Renderer:
    """Upsamples files, with the windows of several in one batch.

    Args:
        model: that generates; None passes everything through.
        settings: how.
        form: of the outputs.
        text_encoder: where to look for the one that the model was trained with, for a prompt.

    Raises:
        ConfigError: the settings do not suit the model or the format.
    """

    def __init__(
        self,
        model: Model | None,
        settings: Settings,
        form: OutputFormat,
        text_encoder: str | None = None,
    ) -> None:
        if settings.rate is not None:
            settings = replace(settings, rate=form.file_rate(settings.rate))
        self._model, self._settings, self._form = model, settings, form
        self._pool: Pool | None = None
        self._layout: Layout | None = None
        if model is not None:
            if model.tells_envelopes:
                _expect_one_step(model.name, settings)
            settings.guided.require(model.condition_dropout)
            if settings.target_hz is not None and not model.has_rolloff:
                raise ConfigError(
                    f"--target-rolloff: the model {model.name} knows no roll-offs",
                    hint="leave it out",
                )
            text = embedded_prompt(model, settings.prompt, text_encoder)
            window = settings.window_frames or model.crop_frames
            self._layout = layout_for(window, model.codec.decode_context)
            self._pool = Pool(model, settings, window, text)

    def run(
        self, jobs: Iterable[Job | Settled], advance: Advance = lambda _: None
    ) -> Generator[Settled, None, None]:
        """Upsample files.

        Args:
            jobs: read one after the other, when they are needed; one that comes with what became
                of it is handed on as it is.
            advance: called with the seconds of input that are done.

        Yields:
            each job with what became of it, as soon as its output is there.

        Raises:
            EnvironmentFailure: the machine is at fault: disk full, out of memory. What is not
                finished leaves nothing behind.
        """
        waiting: list[Rendering] = []
        try:
            for job in jobs:
                if isinstance(job, tuple):
                    yield job
                    continue
                with machine_errors(f"upsampling {job.source.name}", relief=_RELIEF):
                    try:
                        waiting.append(self._begin(job, advance))
                        self._read(waiting, advance)
                    except TrackError as error:
                        yield job, self._failed(job, waiting, error)
                    yield from self._finished(waiting)
            if self._pool is not None:
                self._pool.flush()
            with machine_errors("upsampling", relief=_RELIEF):
                yield from self._finished(waiting)
        finally:
            for rendering in waiting:
                rendering.abandon()

    def _begin(self, job: Job, advance: Advance) -> Rendering:
        """Measure a file and open its output."""
        began = time.monotonic()
        found = inspect_file(job.source, advance=lambda seconds: advance(seconds / _PASSES))
        sound = Sound(found.format.rate, found.format.channels, found.facts, job.digest)
        rate = self._rate(sound)
        samples = output_length(sound.facts.samples, sound.rate, rate)
        if not samples:
            raise TrackError(
                f"expected sound, found {sound.facts.samples} samples at {sound.rate} Hz, of which "
                f"{rate} Hz leave nothing",
                hint="use a higher --rate, or remove the file",
                stage="decode",
            )
        over, reason = self._crossover(sound, rate)
        rendering = Rendering(job, sound, began, over, reason)
        settings = self._settings
        spec = AudioSpec(
            format=self._form,
            rate=rate,
            channels=sound.channels,
            samples=samples,
            seed=settings.seed,
            metadata=self._metadata(job, over),
        )
        writer = rendering.open(spec)
        try:
            if over is None or self._model is None or self._layout is None:
                rendering.track = PassedThrough(sound, writer)
            else:
                rendering.track = Extended(sound, over, self._model, settings, self._layout, writer)
        except BaseException:
            rendering.abandon()
            raise
        return rendering

    def _metadata(self, job: Job, over: Crossover | None) -> Metadata:
        """What the input says, and that a part of the output was made up."""
        found = read_metadata(job.source)
        if over is None or self._model is None:
            return found
        model, seed = self._model, self._settings.seed
        text = (
            f"jatsr {version('jatsr')}: above {over.high:.0f} Hz generated by {model.name} "
            f"({model.digest[:12]}), seed {seed}"
        )
        return replace(found, fields={**found.fields, UPSAMPLED: (text,)})

    def _rate(self, sound: Sound) -> int:
        """Of an output: nothing that the input has is thrown away unasked."""
        if self._settings.rate is not None:
            return self._settings.rate
        least = RATE if self._model is None else self._model.codec.sample_rate
        return self._form.nearest_rate(max(sound.rate, least))

    def _crossover(self, sound: Sound, rate: int) -> tuple[Crossover | None, str]:
        """Where to generate, or why nothing is."""
        if self._model is None:
            return None, "identity: nothing is generated"
        if sound.facts.bandwidth.silent:
            return None, "silent"
        over = crossover(sound, rate, self._model.codec.sample_rate)
        if over is None:
            hertz = sound.facts.bandwidth.hertz
            return None, f"full bandwidth: content up to {hertz / 1000:.1f} kHz"
        return over, ""

    def _read(self, waiting: list[Rendering], advance: Advance) -> None:
        """Read the last file of those that are waiting, and sample what it asks for."""
        rendering = waiting[-1]
        track, rate, samples = rendering.track, rendering.sound.rate, 0
        with open_audio(rendering.job.source) as audio:
            for block in audio.blocks():
                samples += len(block)
                self._sample(track.push(np.ascontiguousarray(block.T)), waiting)
                advance(len(block) / rate / _PASSES)
        expect_same(rendering.sound, samples)
        self._sample(track.flush(), waiting)
        rendering.is_read = True

    def _sample(self, requests: Iterator[Any], waiting: list[Rendering]) -> None:
        for request in requests:
            assert self._pool is not None
            self._pool.add(request)
            _drain(waiting)
            # Silent windows fill no batch: they would queue up behind one that waits for it.
            if len(waiting[-1].track.pending) > 2 * self._settings.batch_size + 2:
                self._pool.flush()
                _drain(waiting)

    def _finished(self, waiting: list[Rendering]) -> Iterator[tuple[Job, Result]]:
        for rendering in list(waiting):
            rendering.track.drain()
            if rendering.is_read and not rendering.track.pending:
                waiting.remove(rendering)
                yield rendering.job, rendering.finish()

    def _failed(self, job: Job, waiting: list[Rendering], error: TrackError) -> Result:
        if waiting and waiting[-1].job is job:
            rendering = waiting.pop()
            rendering.abandon()
            if self._pool is not None:
                self._pool.forget(rendering.track.pending)
        reason = error.message.removeprefix(f"{job.source.name}: ")
        return Result(status="failed", reason=reason, hint=error.hint, facts={})


def _expect_one_step(name: str, settings: Settings) -> None:
    """A model that tells envelopes is asked once, and not guided.

    Raises:
        ConfigError: something else is asked for; names the flag.
    """
    for flag, value in (("--steps", settings.steps or 1), ("--cfg", settings.guidance)):
        if value != 1:
            raise ConfigError(
                f"{flag} {value}: the model {name} tells envelopes, of which sound is made in one "
                "step",
                hint="leave it out",
            )


def _drain(waiting: Iterable[Rendering]) -> None:
    for rendering in waiting:
        rendering.track.drain()
