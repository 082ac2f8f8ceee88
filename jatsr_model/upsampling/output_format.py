"""In which format a file is written: by its extension and ``--bits``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from jatsr_model.upsampling.metadata import Container
from shards.errors import ConfigError

Bits = Literal["16", "24", "float"]

_CONTAINERS: Mapping[str, Container] = MappingProxyType(
    {".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".oga": "ogg", ".opus": "opus"}
)
_LARGEST_WAV = (1 << 32) - (1 << 26)  # bytes of samples; the rest is for tags
_OPUS_RATE = 48000
# Beyond these libsndfile ends the process or writes nothing.
_HIGHEST_RATE: Mapping[str, int] = MappingProxyType({"flac": 655_350, "ogg": 192_000})
_FLAC_EXACT = 65_535  # Hz
_VORBIS_QUALITY = 0.7  # of 0 to 1: about 224 kbit/s of stereo
_OPUS_KBPS, _OPUS_RANGE = 160, (6, 256)  # per channel


@dataclass(frozen=True)
class OutputFormat:
    """How samples are coded.

    Attributes:
        container: WAV becomes RF64 by itself where a WAV file cannot hold the samples.
        bits: of integers; None for floating point and for lossy codecs.
    """

    container: Container
    bits: int | None

    @property
    def is_lossy(self) -> bool:
        """Vorbis and Opus."""
        return self.container in ("ogg", "opus")

    @property
    def is_bounded(self) -> bool:
        """Whether full scale is the end: samples beyond are limited. Only float WAV goes on."""
        return self.is_lossy or self.bits is not None

    @property
    def top(self) -> float:
        """The highest sample."""
        return 1.0 if self.bits is None else 1 - 2.0 ** (1 - self.bits)

    def file_rate(self, rate: int) -> int:
        """Hz of the file where ``rate`` is asked for: Opus knows no 44.1 kHz.

        Raises:
            ConfigError: the container has no such rate.
        """
        if self.container == "opus":
            return _OPUS_RATE
        most = _HIGHEST_RATE.get(self.container, rate)
        if rate > most:
            raise ConfigError(
                f"--rate {rate}: .{self.container} files have up to {most} Hz",
                hint="use a lower --rate, or write .wav",
            )
        if self.container == "flac" and rate > _FLAC_EXACT and rate % 10:
            raise ConfigError(
                f"--rate {rate}: above {_FLAC_EXACT} Hz, .flac files have multiples of 10 Hz only",
                hint="use such a --rate, or write .wav",
            )
        return rate

    def nearest_rate(self, rate: int) -> int:
        """Hz of a file for sound of that rate, which nobody has asked for: as much as it can."""
        rate = min(rate, _HIGHEST_RATE.get(self.container, rate))
        if self.container == "flac" and rate > _FLAC_EXACT:
            rate -= rate % 10
        return _OPUS_RATE if self.container == "opus" else rate

    def libsndfile(self, rate: int, channels: int, samples: int) -> Mapping[str, object]:
        """Arguments of ``soundfile.SoundFile``.

        Args:
            rate: Hz, of the file.
            channels: C.
            samples: per channel.
        """
        how: dict[str, object] = {"samplerate": rate, "channels": channels}
        if self.container == "wav":
            size = samples * channels * (self.bits or 32) // 8
            plain = "WAV" if channels <= 2 else "WAVEX"
            how["format"] = "RF64" if size > _LARGEST_WAV else plain
            how["subtype"] = f"PCM_{self.bits}" if self.bits else "FLOAT"
        elif self.container == "flac":
            how |= {"format": "FLAC", "subtype": f"PCM_{self.bits}"}
        elif self.container == "ogg":
            quality = 1 - _VORBIS_QUALITY
            how |= {"format": "OGG", "subtype": "VORBIS", "compression_level": quality}
        else:
            low, high = _OPUS_RANGE
            level = (high - _OPUS_KBPS) / (high - low)
            how |= {"format": "OGG", "subtype": "OPUS", "compression_level": level}
        return how


def output_format(path: Path, bits: Bits | None = None) -> OutputFormat:
    """The format that a file name asks for.

    Args:
        path: ends in .wav, .flac, .ogg, .oga or .opus.
        bits: 16 or 24 (with dither) or float; default: 24. Not for Ogg and Opus.

    Raises:
        ConfigError: another ending, or bits that the format does not have.
    """
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise ConfigError(
            f"OUT {path.name}: expected a name that ends in {', '.join(_CONTAINERS)}, "
            f"found {path.suffix or 'no ending'}",
            hint="choose one of these endings; it decides the format",
        )
    if container in ("ogg", "opus"):
        if bits is not None:
            raise ConfigError(
                f"--bits {bits}: {path.suffix} files have no bit depth",
                hint="leave --bits out, or write .wav or .flac",
            )
        return OutputFormat(container, None)
    if container == "flac" and bits == "float":
        raise ConfigError(
            "--bits float: FLAC holds integers only", hint="use --bits 24, or write .wav"
        )
    return OutputFormat(container, None if bits == "float" else int(bits or 24))
