"""A file on trial: its clip, what is taken away of it, and what is compared with it.

All signals lie in a folder as mono WAV files of floats: a model is tried by the very code of
``jatsr upsample``, from file to file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from jatsr_model.audio.blocks import Block
from jatsr_model.metrics.baselines import extrapolated, filled_with_noise
from jatsr_model.metrics.clips import converted, fitted, read_clip
from jatsr_model.metrics.music import Music
from jatsr_model.metrics.round_trip import round_trip
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.sounds import INPUT, Case, Sound, read_sound
from jatsr_model.upsampling.audio_out import AudioSpec, audio_writer
from jatsr_model.upsampling.inspection import Facts, inspect_file
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.output_format import OutputFormat
from jatsr_model.upsampling.rendering import Result
from jatsr_model.upsampling.sound import Sound as Measured
from jatsr_model.upsampling.sound import gain_for
from shards.errors import TrackError

CODEC, MODEL = "codec", "model"
LINE, NOISE = "line", "noise"  # see ``baselines``
ENDING = ".wav"
KEPT = 0.9  # of half a rate: above lie the slope of the resampler, and crossovers
FLOAT_WAV = OutputFormat("wav", None)
_REFERENCE = "reference"


@dataclass(frozen=True, eq=False)
class Subject:
    """A file that is tried.

    Attributes:
        name: of its rows.
        folder: of its signals.
        source: facts of the file.
        facts: what was measured of its clip.
        has_codec: whether there is a codec to measure.
        has_baselines: whether what needs no learning is measured, too.
    """

    name: str
    folder: Path
    source: Mapping[str, object]
    facts: Facts
    has_codec: bool
    has_baselines: bool = False

    def low(self, rate: int) -> Path:
        """Its version at a lower rate."""
        return _path(self.folder, f"low{rate}")

    def made(self, rate: int) -> Path:
        """What a model makes of that."""
        return _path(self.folder, f"{MODEL}{rate}")

    def case(self, rate: int, result: Result) -> Case:
        """What is to be compared.

        Args:
            rate: Hz, of the low-res version.
            result: of the model.

        Raises:
            TrackError: the model failed.
        """
        if result.status == "failed":
            raise TrackError(f"{MODEL}: {result.reason}", stage="upsample")
        reference = read_sound(_path(self.folder, _REFERENCE))
        low = read_sound(self.low(rate))
        waves = {INPUT: converted(low.wave, rate, reference.rate)}
        if self.has_baselines:
            waves |= _baselines(waves[INPUT], reference, rate)
        if self.has_codec:
            waves[CODEC] = read_sound(_path(self.folder, CODEC)).wave
        waves[MODEL] = read_sound(self.made(rate)).wave
        length = reference.wave.shape[1]
        return Case(
            name=self.name,
            reference=reference,
            candidates={
                name: Sound(fitted(wave, length), reference.rate) for name, wave in waves.items()
            },
            cutoff=KEPT * rate / 2,
            sources={"source": self.source},
            notes=tuple(self._notes(rate, result)),
        )

    def _notes(self, rate: int, result: Result) -> Iterator[str]:
        found = self.facts.bandwidth
        if found.silent:
            yield "the reference is silent"
        elif found.hertz < rate / 2:
            yield (
                f"the reference itself ends at {found.hertz / 1000:.1f} kHz: it cannot tell what "
                "belongs above the cutoff"
            )
        if result.status == "passed-through" and self.has_codec:
            yield f"{MODEL}: nothing was generated: {result.reason}"


def prepare(
    music: Music, folder: Path, settings: Settings, rates: Sequence[int], model: Model | None
) -> Subject:
    """Write the clip of a file, its low-res versions, and what the codec makes of it.

    Args:
        music: the file.
        folder: where to.
        settings: rate and length of the clip.
        rates: Hz, of the low-res versions.
        model: whose codec is measured, at the level at which the model hears the clip; None: none.

    Raises:
        TrackError: the file cannot be decoded.
        EnvironmentFailure: the machine is at fault.
    """
    clip = read_clip(music.path, settings.clip_seconds, settings.rate)
    reference = _path(folder, _REFERENCE)
    _write(reference, clip.wave, settings.rate)
    facts = inspect_file(reference).facts
    about = {**clip.facts, "bandwidth_hz": facts.bandwidth.hertz}
    subject = Subject(music.name, folder, about, facts, model is not None, settings.baselines)
    for rate in rates:
        _write(subject.low(rate), converted(clip.wave, settings.rate, rate), rate)
    if model is not None:
        gain = gain_for(Measured(settings.rate, 1, facts, ""), model.target_lufs)
        back = round_trip(model, clip.wave, settings.rate, gain)
        _write(_path(folder, CODEC), back, settings.rate)
    return subject


def _baselines(low: Block, reference: Sound, rate: int) -> dict[str, Block]:
    """Of a mono clip."""
    length = reference.wave.shape[1]
    own, truth = torch.from_numpy(fitted(low, length)[0]), torch.from_numpy(reference.wave[0])
    cutoff = KEPT * rate / reference.rate
    made = {LINE: extrapolated(own, cutoff), NOISE: filled_with_noise(own, truth, cutoff)}
    return {name: wave.numpy()[None] for name, wave in made.items()}


def _path(folder: Path, what: str) -> Path:
    return folder / f"{what}{ENDING}"


def _write(path: Path, wave: Block, rate: int) -> None:
    """As a function of the samples, since noise depends on the hash of the file."""
    channels, samples = wave.shape
    with audio_writer(path, AudioSpec(FLOAT_WAV, rate, channels, samples)) as writer:
        writer.write(wave)
