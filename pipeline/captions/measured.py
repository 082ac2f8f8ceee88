"""A description in words of what can be measured: tempo, key, loudness, brightness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.captions.key import KeyFinder
from pipeline.captions.tempo import TempoTracker
from pipeline.stages.stft import MagnitudeStft
from shards.envelope import BINS, HOP, rolloff

SAMPLE_RATE = 44100
_SLOW, _FAST = 80.0, 132.0  # beats per minute
_QUIET, _LOUD = -26.0, -11.0  # LUFS
_DARK, _BRIGHT = 0.2, 0.55  # roll-off


@dataclass(frozen=True)
class Measurements:
    """Facts of a whole track.

    Attributes:
        tempo_bpm: beats per minute; None where no steady beat was found.
        tempo_confidence: 0 to 1.
        key: for example ``C minor``; None where none stands out.
        key_confidence: 0 to 1.
        loudness_lufs: integrated loudness; None if not measured.
        brightness: spectral roll-off of the track, in [0, 1); 0 for silence.
    """

    tempo_bpm: float | None
    tempo_confidence: float
    key: str | None
    key_confidence: float
    loudness_lufs: float | None
    brightness: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, rounded for reading."""
        return {
            "tempo_bpm": None if self.tempo_bpm is None else round(self.tempo_bpm, 1),
            "tempo_confidence": round(self.tempo_confidence, 3),
            "key": self.key,
            "key_confidence": round(self.key_confidence, 3),
            "loudness_lufs": None if self.loudness_lufs is None else round(self.loudness_lufs, 2),
            "brightness": round(self.brightness, 4),
        }

    def sentence(self) -> str:
        """``A slow, dark and quiet piece in A minor at about 72 beats per minute.``

        Empty for silence, and where nothing stands out.
        """
        if self.brightness <= 0.0:
            return ""
        words = self._adjectives()
        text = " ".join([*([_listed(words)] if words else []), "piece"])
        if self.key:
            text += f" in {self.key}"
        if self.tempo_bpm:
            text += f" at about {round(self.tempo_bpm)} beats per minute"
        return "" if text == "piece" else f"A {text}."

    def _adjectives(self) -> list[str]:
        return [
            word
            for value, low, high, (below, above) in (
                (self.tempo_bpm, _SLOW, _FAST, ("slow", "fast")),
                (self.brightness, _DARK, _BRIGHT, ("dark", "bright")),
                (self.loudness_lufs, _QUIET, _LOUD, ("quiet", "loud")),
            )
            if value is not None
            and (word := below if value < low else above if value > high else "")
        ]


class MeasuredDescriber:
    """Measures a track in one pass; memory does not grow with its length."""

    def __init__(self) -> None:
        self._stft = MagnitudeStft(1)
        self._tempo = TempoTracker(SAMPLE_RATE / HOP)
        self._key = KeyFinder(SAMPLE_RATE)
        self._spectrum = np.zeros(BINS)

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take mono samples at ``SAMPLE_RATE``, float32 ``[n]``, any ``n``."""
        self._key.push(samples)
        for batch in self._stft.push(samples[None]):
            self._take(batch[0])

    def result(self, loudness_lufs: float | None) -> Measurements:
        """The facts of all samples pushed; call once.

        Args:
            loudness_lufs: integrated loudness, measured elsewhere.
        """
        for batch in self._stft.flush():
            self._take(batch[0])
        tempo, key = self._tempo.result(), self._key.result()
        return Measurements(
            tempo_bpm=tempo.bpm,
            tempo_confidence=tempo.confidence,
            key=key.name,
            key_confidence=key.confidence,
            loudness_lufs=loudness_lufs,
            brightness=rolloff(self._spectrum),
        )

    def _take(self, magnitudes: NDArray[np.float32]) -> None:
        self._tempo.push(magnitudes)
        self._spectrum += magnitudes.sum(axis=0, dtype=np.float32)


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
