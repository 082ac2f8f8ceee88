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
        better: which way; ``near 0`` for differences with a sign.
        digits: after the point.
        needs_cutoff: there is none without knowing where the input ends.
    """

    key: str
    title: str
    better: Better = "lower"
    digits: int = 3
    needs_cutoff: bool = False


METRICS = (
    Metric("lsd", "LSD"),
    Metric("lsd_lf", "LSD-LF", needs_cutoff=True),
    Metric("lsd_hf", "LSD-HF", needs_cutoff=True),
    Metric("lsd_ssr_eval", "LSD as in ssr_eval"),
    Metric("lsd_jatsr_db", "LSD x10 as in JaTSR, dB", digits=2),
    Metric("mel_l1_db", "mel L1, dB", digits=2),
    Metric("mel_l2_db", "mel L2, dB", digits=2),
    Metric("mel_multi_scale_db", "multi-scale mel L1, dB", digits=2),
    Metric("si_sdr_db", "SI-SDR, dB", "higher", digits=2),
    Metric("spectral_convergence", "spectral convergence"),
    Metric("flatness_distance_db", "flatness above cutoff, distance, dB", needs_cutoff=True),
    Metric("flatness_shift_db", "flatness above cutoff, shift, dB", "near 0", needs_cutoff=True),
    Metric("crest_distance_db", "crest above cutoff, distance, dB", needs_cutoff=True),
    Metric("crest_shift_db", "crest above cutoff, shift, dB", "near 0", needs_cutoff=True),
    Metric("level_shift_db", "level, shift, dB", "near 0", digits=2),
    Metric("loudness_shift_lu", "loudness, shift, LU", "near 0", digits=2),
    Metric("visqol", "ViSQOL MOS-LQO", "higher"),
)
"""Of one file; what cannot be had for a file is None."""

BY_KEY = {metric.key: metric for metric in METRICS}
IN_TABLE = ("lsd", "lsd_lf", "lsd_hf", "mel_l1_db", "si_sdr_db")
"""Those that tables show file by file."""
