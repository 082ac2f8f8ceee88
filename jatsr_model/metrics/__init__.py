"""Measuring how close audio is to a reference.

The functions take tensors ``[..., n]`` on any device and are cheap enough for a trainer;
``Evaluation`` does everything that ``jatsr evaluate`` prints.
"""

from jatsr_model.metrics.cutoff import find_cutoff, split_bin
from jatsr_model.metrics.log_spectral import BandLsd, band_lsd, lsd, lsd_jatsr_db, lsd_ssr_eval
from jatsr_model.metrics.mel import MelDistance, mel_distance, multi_scale_mel
from jatsr_model.metrics.stft import ShortClipError
from jatsr_model.metrics.texture import Texture, crest, flatness
from jatsr_model.metrics.waves import si_sdr, spectral_convergence

__all__ = [
    "BandLsd",
    "MelDistance",
    "ShortClipError",
    "Texture",
    "band_lsd",
    "crest",
    "find_cutoff",
    "flatness",
    "lsd",
    "lsd_jatsr_db",
    "lsd_ssr_eval",
    "mel_distance",
    "multi_scale_mel",
    "si_sdr",
    "spectral_convergence",
    "split_bin",
]
