"""What ``--lr`` may say: low-res variants, fixed or drawn anew for every track."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import soundfile as sf

from pipeline.stages.degradation import SAMPLE_RATE, Degradation, Sinc
from pipeline.stages.filters import ORDERS, TYPES, FilterDegradation, design_params
from pipeline.stages.lossy import MP3_KBPS, OPUS_KBPS, VORBIS_KBPS, Lossy
from shards.errors import ConfigError

_SINC_RATES = range(2000, SAMPLE_RATE)
_CUTOFFS = range(1000, 22001)  # Hz
_SNAP = 100  # Hz; keeps the resampling ratios simple

_BIT_RATES: Mapping[str, Sequence[int]] = {
    "mp3": MP3_KBPS,
    "opus": OPUS_KBPS,
    "vorbis": VORBIS_KBPS,
}

_FORMS = (
    "sinc:RATE (Hz, such as sinc:16000), filters:LOW-HIGH (cutoffs in Hz, such as "
    "filters:2000-16000), mp3:KBPS, opus:KBPS or vorbis:KBPS (such as mp3:64); or of every track "
    "another one: sinc:LOW-HIGH (Hz), lossy:LOW-HIGH (kbit/s of any codec)"
)


CLASSES: Mapping[str, type[Degradation]] = {
    "sinc": Sinc,
    "filters": FilterDegradation,
    "lossy": Lossy,
}
"""By kind, as ``params`` say it."""


@dataclass(frozen=True)
class LowRes(ABC):
    """One value of ``--lr``; ``str`` gives its canonical form."""

    kind: ClassVar[str]
    is_random: ClassVar[bool] = False  # whether draws for different variants differ

    @property
    def version(self) -> str:
        """Version of the samples it gives; belongs in the fingerprint."""
        return CLASSES[self.kind].version

    @abstractmethod
    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """Parameters for a track; JSON-ready."""


@dataclass(frozen=True)
class DrawnSpec(LowRes):
    """``KIND:LOW-HIGH``: something between two numbers, another for every track and variant."""

    low: int
    high: int
    is_random: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.kind}:{self.low}-{self.high}"

    def _draw(self, track_id: str, variant: int, count: int) -> list[int]:
        """Large numbers; a hash itself is their source: no library can change what it gives."""
        digest = hashlib.sha256(f"{self}\n{track_id}\n{variant}".encode()).digest()
        return [int.from_bytes(digest[8 * i : 8 * i + 8], "big") for i in range(count)]


@dataclass(frozen=True)
class SincSpec(LowRes):
    """``sinc:RATE``: through a lower sample rate."""

    rate: int
    kind: ClassVar[str] = "sinc"

    def __str__(self) -> str:
        return f"sinc:{self.rate}"

    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """The rate; the same for all tracks."""
        return {"kind": "sinc", "rate": self.rate}


@dataclass(frozen=True)
class DrawnSincSpec(DrawnSpec):
    """``sinc:LOW-HIGH``: through a random lower sample rate."""

    kind: ClassVar[str] = "sinc"

    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """The rate, a multiple of 100 Hz, uniform."""
        (place,) = self._draw(track_id, variant, 1)
        rates = _snapped(self.low, self.high)
        return SincSpec(rates[place % len(rates)]).params(track_id, variant)


@dataclass(frozen=True)
class FiltersSpec(DrawnSpec):
    """``filters:LOW-HIGH``: SAGA-SR's random low-pass filters."""

    kind: ClassVar[str] = "filters"

    @property
    def cutoffs(self) -> range:
        """The cutoffs that may be drawn, Hz."""
        return _snapped(self.low, self.high)

    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """Type, order (2 to 10) and cutoff (multiples of 100 Hz), each uniform."""
        kind, order, cutoff = self._draw(track_id, variant, 3)
        return design_params(
            TYPES[kind % len(TYPES)],
            ORDERS[order % len(ORDERS)],
            self.cutoffs[cutoff % len(self.cutoffs)],
        )


@dataclass(frozen=True)
class LossySpec(LowRes):
    """``mp3:KBPS``, ``opus:KBPS``, ``vorbis:KBPS``: damage by a lossy codec."""

    codec: str
    kbps: int
    kind: ClassVar[str] = "lossy"

    def __str__(self) -> str:
        return f"{self.codec}:{self.kbps}"

    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """Codec, bit rate of the whole file, library; the same for all tracks."""
        library = f"libsndfile {sf.__libsndfile_version__}"
        return {"kind": "lossy", "codec": self.codec, "kbps": self.kbps, "library": library}


@dataclass(frozen=True)
class DrawnLossySpec(DrawnSpec):
    """``lossy:LOW-HIGH``: damage by a random codec at a random bit rate."""

    kind: ClassVar[str] = "lossy"

    @property
    def bit_rates(self) -> Mapping[str, Sequence[int]]:
        """The bit rates that may be drawn, by codec; of codecs that have some."""
        every = {
            codec: [kbps for kbps in known if self.low <= kbps <= self.high]
            for codec, known in _BIT_RATES.items()
        }
        return {codec: some for codec, some in every.items() if some}

    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """Codec, and one of its bit rates, both uniform."""
        codec, kbps = self._draw(track_id, variant, 2)
        known = self.bit_rates
        name = list(known)[codec % len(known)]
        return LossySpec(name, known[name][kbps % len(known[name])]).params(track_id, variant)


def parse_lr(spec: str) -> LowRes:
    """Read one value of ``--lr``.

    Raises:
        ConfigError: unknown form or a number out of range.
    """
    form = re.fullmatch(r"([a-z0-9]+):([0-9]{1,6})(?:-([0-9]{1,6}))?", spec.strip().lower())
    name, low, high = form.groups() if form else ("", "0", None)
    if high is not None and name in _RANGES:
        return _RANGES[name](spec, int(low), int(high))
    if high is None and name == "sinc":
        _expect(int(low) in _SINC_RATES, spec, _span(_SINC_RATES, "Hz"))
        return SincSpec(int(low))
    if high is None and name in _BIT_RATES:
        known = _BIT_RATES[name]
        several = f"one of {', '.join(map(str, known))} kbit/s"
        _expect(int(low) in known, spec, _span(known, "kbit/s") if name != "mp3" else several)
        return LossySpec(name, int(low))
    raise ConfigError(f"--lr {spec}: expected a known form, found {spec!r}", hint=_FORMS)


def _filters(spec: str, low: int, high: int) -> LowRes:
    _expect_frequencies(spec, low, high, _CUTOFFS, f"cutoffs of {_span(_CUTOFFS, 'Hz')}")
    return FiltersSpec(low, high)


def _drawn_sinc(spec: str, low: int, high: int) -> LowRes:
    _expect_frequencies(spec, low, high, _SINC_RATES, _span(_SINC_RATES, "Hz"))
    return DrawnSincSpec(low, high)


def _drawn_lossy(spec: str, low: int, high: int) -> LowRes:
    _expect(low <= high, spec, "LOW not above HIGH")
    lossy = DrawnLossySpec(low, high)
    _expect(bool(lossy.bit_rates), spec, "a bit rate of a codec between LOW and HIGH")
    return lossy


_RANGES: Mapping[str, Callable[[str, int, int], LowRes]] = {
    "filters": _filters,
    "sinc": _drawn_sinc,
    "lossy": _drawn_lossy,
}


def _snapped(low: int, high: int) -> range:
    """The multiples of 100 Hz between two frequencies."""
    return range(-(-low // _SNAP) * _SNAP, high + 1, _SNAP)


def _expect_frequencies(spec: str, low: int, high: int, known: range, expected: str) -> None:
    _expect(low in known and high in known, spec, expected)
    _expect(low <= high, spec, "LOW not above HIGH")
    _expect(bool(_snapped(low, high)), spec, f"a multiple of {_SNAP} Hz between LOW and HIGH")


def _expect(condition: bool, spec: str, expected: str) -> None:
    if not condition:
        raise ConfigError(f"--lr {spec}: expected {expected}", hint=_FORMS)


def _span(values: Sequence[int], unit: str) -> str:
    return f"{values[0]} to {values[-1]} {unit}"
