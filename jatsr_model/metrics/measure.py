"""All metrics of one case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from jatsr_model.metrics.cutoff import find_cutoff, split_bin
from jatsr_model.metrics.log_spectral import band_lsd, lsd, lsd_jatsr_db, lsd_ssr_eval
from jatsr_model.metrics.mel import SCALES, STANDARD, mel_distance
from jatsr_model.metrics.names import METRICS
from jatsr_model.metrics.openl3 import OpenL3, open_openl3
from jatsr_model.metrics.prepare import Prepared
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.sounds import INPUT, Case
from jatsr_model.metrics.texture import crest, flatness
from jatsr_model.metrics.visqol import RATE as VISQOL_RATE
from jatsr_model.metrics.visqol import Visqol, open_visqol
from jatsr_model.metrics.waves import levels, si_sdr, spectral_convergence

Values = Mapping[str, float | None]
_AUDIBLE_SHIFT = 1.0  # dB


@dataclass(frozen=True)
class Row:
    """What was found for one case.

    Attributes:
        name: of the case.
        cutoff: Hz, where the low-res input ends; None: not known, or the band is whole.
        sounds: facts of every signal, and of files that signals were made of.
        values: metrics by candidate; NaN never, None where there is none.
        notes: on mismatches and what was done about them.
        problem: why nothing was measured; empty where something was.
    """

    name: str
    cutoff: float | None = None
    sounds: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    values: Mapping[str, Values] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Extras:
    """Metrics of packages that may not be there; the reason in words where they are not."""

    visqol: Visqol | str
    openl3: OpenL3 | str

    @property
    def missing(self) -> dict[str, str]:
        """Which are not there, and why."""
        found = {"visqol": self.visqol, "fd_openl3": self.openl3}
        return {name: extra for name, extra in found.items() if isinstance(extra, str)}


def open_extras() -> Extras:
    """Those that are installed."""
    return Extras(open_visqol(), open_openl3())


def measure(case: Case, prepared: Prepared, settings: Settings, visqol: Visqol | str) -> Row:
    """Compare every candidate of a case with its reference.

    Args:
        case: what to compare.
        prepared: the same as signals.
        settings: what is fixed.
        visqol: if it is there.

    Raises:
        ShortClipError: a signal is shorter than a window.
    """
    notes = [*case.notes, *prepared.notes]
    cutoff = _cutoff(case, prepared, settings, notes)
    split = None if cutoff is None else split_bin(cutoff, settings.rate)
    values = {}
    for name in case.candidates:
        found = _measure_one(*prepared.pair(name, settings), settings.rate, split, visqol)
        shift = found["level_shift_db"]
        if name != INPUT and shift is not None and abs(shift) > _AUDIBLE_SHIFT:
            notes.append(
                f"{name} is {abs(shift):.1f} dB {'louder' if shift > 0 else 'quieter'} than the "
                "reference: a gain of g adds up to 2 |log10 g| to LSD"
            )
        values[name] = found
    sounds = {"reference": case.reference, **case.candidates}
    facts = {**case.sources, **{name: sound.facts for name, sound in sounds.items()}}
    return Row(case.name, cutoff, facts, values, tuple(notes))


def _cutoff(case: Case, prepared: Prepared, settings: Settings, notes: list[str]) -> float | None:
    """As given, else as found in the input, else half the input's rate where that is lower."""
    given = settings.cutoff if settings.cutoff is not None else case.cutoff
    if given is not None or INPUT not in case.candidates:
        return given
    found = find_cutoff(*prepared.pair(INPUT, settings), settings.rate)
    rate = case.candidates[INPUT].rate
    if found is None and rate < min(case.reference.rate, settings.rate):
        return rate / 2
    if found is None:
        notes.append(f"{INPUT} has the band of the reference: nothing above a cutoff to compare")
    return found


def _measure_one(
    reference: Tensor, estimate: Tensor, rate: int, split: int | None, visqol: Visqol | str
) -> dict[str, float | None]:
    distance = float(lsd(reference, estimate))  # of the longest window: what is too short ends here
    was, became = levels(reference, rate), levels(estimate, rate)
    mels = {scale: mel_distance(reference, estimate, rate, scale) for scale in SCALES}
    found: dict[str, float] = {
        "lsd": distance,
        "lsd_ssr_eval": float(lsd_ssr_eval(reference, estimate, rate)),
        "lsd_jatsr_db": float(lsd_jatsr_db(reference, estimate)),
        "mel_l1_db": float(mels[STANDARD].l1),
        "mel_l2_db": float(mels[STANDARD].l2),
        "mel_multi_scale_db": float(np.mean([float(mel.l1) for mel in mels.values()])),
        "si_sdr_db": float(si_sdr(reference, estimate)),
        "spectral_convergence": float(spectral_convergence(reference, estimate)),
        "level_shift_db": became.rms_dbfs - was.rms_dbfs,
        "loudness_shift_lu": became.lufs - was.lufs,
    }
    if split is not None:
        bands = band_lsd(reference, estimate, split)
        flat, spiky = flatness(reference, estimate, split), crest(reference, estimate, split)
        found |= {
            "lsd_lf": float(bands.low),
            "lsd_hf": float(bands.high),
            "flatness_distance_db": flat.distance,
            "flatness_shift_db": flat.shift,
            "crest_distance_db": spiky.distance,
            "crest_shift_db": spiky.shift,
        }
    if isinstance(visqol, Visqol):
        found["visqol"] = visqol.score(*(resampled(x, rate) for x in (reference, estimate)))
    return {metric.key: _finite(found.get(metric.key)) for metric in METRICS}


def resampled(wave: Tensor, rate: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """At the rate that listening models want."""
    import soxr

    samples = wave.cpu().numpy()
    if rate == VISQOL_RATE:
        return samples
    return np.asarray(soxr.resample(samples, rate, VISQOL_RATE, "VHQ"), np.float32)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
