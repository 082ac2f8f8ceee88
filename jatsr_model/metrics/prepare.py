"""Bringing signals to one rate, one channel and one length, and saying what was done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.sounds import INPUT, Case, Sound

_QUALITY = "VHQ"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A case as it is measured.

    Attributes:
        reference: float32 ``[n]``, all of it.
        candidates: by name, float32 ``[m]``.
        notes: on what differs between the files, and what was done about it.
    """

    reference: Tensor
    candidates: dict[str, Tensor]
    notes: list[str]

    def pair(self, name: str, settings: Settings) -> tuple[Tensor, Tensor]:
        """Reference and candidate over the time that is compared, of one length."""
        total = self.reference.shape[-1]
        start, end = 0, min(total, self.candidates[name].shape[-1])
        if settings.clip_seconds is not None:
            length = round(settings.clip_seconds * settings.rate)
            start = max(0, (total - length) // 2)
            end = min(end, start + length)
        return self.reference[start:end], self.candidates[name][start:end]


def prepare(case: Case, settings: Settings) -> Prepared:
    """Make the signals of a case comparable."""
    sounds = {"reference": case.reference, **case.candidates}
    waves = {name: torch.from_numpy(mono(sound, settings)) for name, sound in sounds.items()}
    reference = waves.pop("reference")
    return Prepared(reference, waves, [*_notes(case, settings)])


def mono(sound: Sound, settings: Settings) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Mean of the channels at the rate and depth of the settings, ``[n]``."""
    import soxr

    wave = sound.wave.mean(axis=0, dtype=np.float64).astype(np.float32)
    if sound.rate != settings.rate:
        wave = soxr.resample(wave, sound.rate, settings.rate, _QUALITY)
    if settings.bits != "float":
        steps = 2.0 ** (int(settings.bits) - 1)
        wave = np.clip(np.round(wave * steps), -steps, steps - 1) / steps
    return np.ascontiguousarray(wave, np.float32)


def _notes(case: Case, settings: Settings) -> Iterator[str]:
    reference = case.reference
    resampled = {
        name: sound.rate
        for name, sound in {"reference": reference, **case.candidates}.items()
        if sound.rate != settings.rate
    }
    if resampled:
        listed = ", ".join(f"{name} ({rate} Hz)" for name, rate in resampled.items())
        yield f"resampled to {settings.rate} Hz: {listed}"
    seconds = reference.wave.shape[-1] / reference.rate
    if settings.clip_seconds is not None and seconds < settings.clip_seconds:
        yield f"the reference has only {seconds:.3f} s, less than a clip"
    for name, sound in case.candidates.items():
        yield from _differences(name, sound, reference, settings)


def _differences(name: str, sound: Sound, reference: Sound, settings: Settings) -> Iterator[str]:
    if sound.rate != reference.rate and name != INPUT:
        yield f"{name} has {sound.rate} Hz, the reference {reference.rate} Hz"
    if len(sound.wave) != len(reference.wave):
        yield (
            f"{name} has {_count(len(sound.wave))}, the reference {len(reference.wave)}: compared "
            "as mono"
        )
    expected = reference.wave.shape[-1] * sound.rate / reference.rate
    longer = sound.wave.shape[-1] - round(expected)
    # lengths at different rates are rounded, either way
    if abs(longer) > (0 if sound.rate == reference.rate else 1):
        yield (
            f"{name} is {abs(longer)} samples ({abs(longer) / sound.rate:.3f} s) "
            f"{'longer' if longer > 0 else 'shorter'} than the reference: compared from the start "
            "over what both have"
        )
    if settings.bits == "float" and sound.depth != reference.depth:
        yield (
            f"{name} is {sound.coding}, the reference {reference.coding}: rounding decides the LSD "
            "of empty bands (--bits 16 rounds all alike)"
        )


def _count(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"
