"""What the metrics are called and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "near 0"]


@dataclass(frozen=True)
class Metric:
    """One number of a report.

    Attributes:
        key: in JSON and CSV.
        title: in tables.
        short: in tables with a column for every metric.
        better: which way; ``near 0`` for differences with a sign.
        digits: after the point.
        needs_cutoff: there is none without knowing where the input ends.
    """

    key: str
    title: str
    short: str
    better: Better = "lower"
    digits: int = 3
    needs_cutoff: bool = False


METRICS = (
    Metric("lsd", "LSD", "LSD"),
    Metric("lsd_lf", "LSD-LF", "LSD-LF", needs_cutoff=True),
    Metric("lsd_hf", "LSD-HF", "LSD-HF", needs_cutoff=True),
    Metric("lsd_ssr_eval", "LSD as in ssr_eval", "ssr_eval"),
    Metric("lsd_jatsr_db", "LSD x10 as in JaTSR, dB", "JaTSR dB", digits=2),
    Metric("mel_l1_db", "mel L1, dB", "mel L1", digits=2),
    Metric("mel_l2_db", "mel L2, dB", "mel L2", digits=2),
    Metric("mel_multi_scale_db", "multi-scale mel L1, dB", "mel scales", digits=2),
    Metric("si_sdr_db", "SI-SDR, dB", "SI-SDR", "higher", digits=2),
    Metric("spectral_convergence", "spectral convergence", "conv"),
    Metric(
        "flatness_distance_db", "flatness above cutoff, distance, dB", "flatness", needs_cutoff=True
    ),
    Metric(
        "flatness_shift_db",
        "flatness above cutoff, shift, dB",
        "flat shift",
        "near 0",
        needs_cutoff=True,
    ),
    Metric("crest_distance_db", "crest above cutoff, distance, dB", "crest", needs_cutoff=True),
    Metric(
        "crest_shift_db",
        "crest above cutoff, shift, dB",
        "crest shift",
        "near 0",
        needs_cutoff=True,
    ),
    Metric("level_shift_db", "level, shift, dB", "level", "near 0", digits=2),
    Metric("loudness_shift_lu", "loudness, shift, LU", "loudness", "near 0", digits=2),
    Metric("visqol", "ViSQOL MOS-LQO", "ViSQOL", "higher"),
)
"""Of one file; what cannot be had for a file is None."""

BY_KEY = {metric.key: metric for metric in METRICS}
IN_TABLE = ("lsd", "lsd_lf", "lsd_hf", "mel_l1_db", "si_sdr_db")
"""Those that tables show file by file."""
