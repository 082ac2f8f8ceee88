"""Low-res variants: what ``--lr`` may say, the draw for a track, and the streams in lock step."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from jatsr_model.audio.blocks import Block, Fifo
from pipeline.stages.degradation import SAMPLE_RATE, Degradation, Sinc
from pipeline.stages.filters import ORDERS, TYPES, FilterDegradation, design_params
from pipeline.stages.lossy import MP3_KBPS, OPUS_KBPS, VORBIS_KBPS, Lossy
from shards.errors import ConfigError

_SINC_RATES = range(2000, SAMPLE_RATE)
_CUTOFFS = range(1000, 22001)  # Hz
_SNAP = 100  # Hz; keeps the resampling ratios simple

_BIT_RATES = {"opus": OPUS_KBPS, "vorbis": VORBIS_KBPS}

_FORMS = (
    "sinc:RATE (Hz, such as sinc:16000), filters:LOW-HIGH (cutoffs in Hz, such as "
    "filters:2000-16000), mp3:KBPS, opus:KBPS or vorbis:KBPS (such as mp3:64)"
)
_CLASSES: Mapping[str, type[Degradation]] = {
    "sinc": Sinc,
    "filters": FilterDegradation,
    "lossy": Lossy,
}


@dataclass(frozen=True)
class LowRes(ABC):
    """One value of ``--lr``; ``str`` gives its canonical form."""

    kind: ClassVar[str]
    is_random: ClassVar[bool] = False  # whether draws for different variants differ

    @property
    def version(self) -> str:
        """Version of the samples it gives; belongs in the fingerprint."""
        return _CLASSES[self.kind].version

    @abstractmethod
    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """Parameters for a track; JSON-ready."""


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
class FiltersSpec(LowRes):
    """``filters:LOW-HIGH``: SAGA-SR's random low-pass filters."""

    low: int
    high: int
    kind: ClassVar[str] = "filters"
    is_random: ClassVar[bool] = True

    @property
    def cutoffs(self) -> range:
        """The cutoffs that may be drawn, Hz."""
        return range(-(-self.low // _SNAP) * _SNAP, self.high + 1, _SNAP)

    def __str__(self) -> str:
        return f"filters:{self.low}-{self.high}"

    def params(self, track_id: str, variant: int) -> dict[str, Any]:
        """Type, order (2 to 10) and cutoff (multiples of 100 Hz), each uniform."""
        # The hash itself is the source of randomness: no library can change what it gives.
        seed = hashlib.sha256(f"{self}\n{track_id}\n{variant}".encode()).digest()
        kind, order, cutoff = (int.from_bytes(seed[i : i + 8], "big") for i in (0, 8, 16))
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


def parse_lr(spec: str) -> LowRes:
    """Read one value of ``--lr``.

    Raises:
        ConfigError: unknown form or a number out of range.
    """
    form = re.fullmatch(r"([a-z0-9]+):([0-9]{1,6})(?:-([0-9]{1,6}))?", spec.strip().lower())
    name, low, high = form.groups() if form else ("", "0", None)
    if name == "filters" and high is not None:
        return _filters(spec, int(low), int(high))
    if high is None and name == "sinc":
        _expect(int(low) in _SINC_RATES, spec, _span(_SINC_RATES, "Hz"))
        return SincSpec(int(low))
    if high is None and name == "mp3":
        _expect(int(low) in MP3_KBPS, spec, f"one of {', '.join(map(str, MP3_KBPS))} kbit/s")
        return LossySpec(name, int(low))
    if high is None and name in _BIT_RATES:
        _expect(int(low) in _BIT_RATES[name], spec, _span(_BIT_RATES[name], "kbit/s"))
        return LossySpec(name, int(low))
    raise ConfigError(f"--lr {spec}: expected a known form, found {spec!r}", hint=_FORMS)


def draw(spec: LowRes, track_id: str, variant: int) -> Degradation:
    """The degradation of one variant of one track, a function of the three arguments alone."""
    return recreate(spec.params(track_id, variant))


def recreate(params: Mapping[str, Any]) -> Degradation:
    """A degradation from its recorded ``params``."""
    return _CLASSES[params["kind"]](params)


def degradation_blocks(
    hr: Callable[[], Iterator[Block]], degradations: Sequence[Degradation], scratch: Path
) -> Iterator[NDArray[np.float32]]:
    """High-res signal and its variants in lock step.

    Args:
        hr: gives the high-res signal, blocks ``(C, n)`` at 44.1 kHz; called once, and once more
            for each degradation that must be prepared.
        degradations: fresh ones; closed at the end.
        scratch: folder for temporary files.

    Yields:
        float32 ``(1 + V, C, n)``, the high-res signal first; in all as long as ``hr``. Only the
        latency of the slowest variant is held.
    """
    with ExitStack() as stack:
        for degradation in degradations:
            stack.callback(degradation.close)
            if degradation.needs_prepare:
                degradation.prepare(hr(), scratch)
        fifos = [Fifo() for _ in range(1 + len(degradations))]
        for block in hr():
            for fifo, output in zip(
                fifos, (block, *(d.push(block) for d in degradations)), strict=True
            ):
                fifo.push(output)
            yield from _ready(fifos)
        for fifo, degradation in zip(fifos[1:], degradations, strict=True):
            fifo.push(degradation.flush())
        yield from _ready(fifos)


def _filters(spec: str, low: int, high: int) -> FiltersSpec:
    _expect(low in _CUTOFFS and high in _CUTOFFS, spec, f"cutoffs of {_span(_CUTOFFS, 'Hz')}")
    _expect(low <= high, spec, "LOW not above HIGH")
    filters = FiltersSpec(low, high)
    _expect(bool(filters.cutoffs), spec, f"a multiple of {_SNAP} Hz between LOW and HIGH")
    return filters


def _expect(condition: bool, spec: str, expected: str) -> None:
    if not condition:
        raise ConfigError(f"--lr {spec}: expected {expected}", hint=_FORMS)


def _span(values: range, unit: str) -> str:
    return f"{values[0]} to {values[-1]} {unit}"


def _ready(fifos: Sequence[Fifo]) -> Iterator[NDArray[np.float32]]:
    samples = min(fifo.available for fifo in fifos)
    if samples:
        yield np.stack([fifo.take(samples) for fifo in fifos])
