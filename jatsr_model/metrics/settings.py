"""What is fixed in a measurement, since it decides the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jatsr_model.metrics import log_spectral, mel, texture
from jatsr_model.metrics.log_spectral import STANDARD
from shards.errors import ConfigError

Bits = Literal["float", "16", "24"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of an evaluation.

    Attributes:
        rate: Hz, at which everything is compared.
        bits: to which all signals are rounded before they are compared; ``float``: to none.
        clip_seconds: compare so much from the middle of every reference; None: all of it.
        cutoff: Hz, where the low-res inputs end; None: as each case says.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        baselines: compare what can be had without learning, too; where a model is tried.
    """

    rate: int = 44100
    bits: Bits = "float"
    clip_seconds: float | None = None
    cutoff: float | None = None
    seed: int = 0
    resamples: int = 2000
    baselines: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: one cannot work.
        """
        if self.cutoff is not None and not 0 < self.cutoff < self.rate / 2:
            raise ConfigError(
                f"--cutoff {self.cutoff:g}: expected a frequency between 0 and half of --rate "
                f"{self.rate}"
            )
        shortest = STANDARD.n_fft / self.rate
        if self.clip_seconds is not None and self.clip_seconds < shortest:
            raise ConfigError(
                f"--clip-seconds {self.clip_seconds:g}: expected at least one window, "
                f"{shortest:.3f} s"
            )

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON: everything that the numbers depend on."""
        return {
            "rate": self.rate,
            "channels": "mono (mean)",
            "samples": "float32",
            "bits": self.bits,
            "clip_seconds": self.clip_seconds,
            "cutoff": self.cutoff,
            "window": "periodic Hann",
            "n_fft": STANDARD.n_fft,
            "hop": STANDARD.hop,
            "centred": STANDARD.centred,
            "power_floor": log_spectral.POWER_FLOOR,
            "mel_power_floor": mel.POWER_FLOOR,
            "active_variance": texture.ACTIVE,
            "resampler": "soxr VHQ",
            "bootstrap": {"level": 0.95, "resamples": self.resamples, "seed": self.seed},
        }

    @property
    def text(self) -> str:
        """One line of it for people."""
        depth = "float32 as decoded" if self.bits == "float" else f"rounded to {self.bits} bits"
        clip = "" if self.clip_seconds is None else f", {self.clip_seconds:g} s from the middle"
        return (
            f"mono, {depth}, {self.rate} Hz{clip}; n_fft {STANDARD.n_fft}, hop "
            f"{STANDARD.hop}, periodic Hann, no padding, power floor {log_spectral.POWER_FLOOR:g}"
        )
