"""What a build is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from jatsr_model.audio.loudness import GainPolicy
from jatsr_model.codecs import CodecConfig, CodecSpec
from pipeline.captions import parse_chain
from pipeline.stages.variants import LowRes, parse_lr
from shards.errors import ConfigError

Channels = Literal["mono", "stereo"]
Device = Literal["auto", "cpu", "cuda"]
SplitBy = Literal["track", "folder", "artist"]
TARGET_SHARD_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Options of ``jatsr build``; the defaults are the sensible ones."""

    codec: str = "mdct"
    codec_weights: Path | None = None
    device: Device = "auto"
    precision: str = "fp32"
    compile: bool = True
    channels: Channels = "mono"
    lr: tuple[str, ...] = ("sinc:16000", "filters:2000-16000")
    lr_variants: int = 1  # draws from every random --lr
    loudness: float | None = -16.0  # LUFS
    val_fraction: float = 0.1
    split_by: SplitBy = "track"
    excerpt_seconds: float = 60.0
    shard_hours: float | None = None  # None: as many as make about 256 MB
    captions: str = "sidecar,tags,measured"
    engine: Literal["local", "ray"] = "local"
    workers: int | None = None  # of the local engine; None: one per core; 0: in this process
    ray_address: str | None = None  # None: RAY_ADDRESS, or a private Ray on this machine
    encode_actors: int | None = None  # None: as many as the cluster holds
    gpus_per_actor: float | None = None  # None: a quarter where there are GPUs
    cpu_per_task: float = 1.0
    in_flight: int = 4  # tracks dealt to an actor ahead of time
    max_failed: float = 0.1
    strict: bool = False
    limit: int | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        expect(self.channels in get_args(Channels), "--channels", "mono or stereo", self.channels)
        expect(
            self.split_by in get_args(SplitBy),
            "--split-by",
            "track, folder or artist",
            self.split_by,
        )
        expect(0 <= self.val_fraction <= 1, "--val-fraction", "0 to 1", self.val_fraction)
        expect(0 <= self.max_failed <= 1, "--max-failed", "0 to 1", self.max_failed)
        expect(
            1 <= self.excerpt_seconds <= 3600,
            "--excerpt-seconds",
            "1 to 3600",
            self.excerpt_seconds,
        )
        expect(
            self.shard_hours is None or 0 < self.shard_hours < 1e6,
            "--shard-hours",
            "more than 0",
            self.shard_hours,
        )
        expect(
            self.loudness is None or -70 < self.loudness < 0,
            "--loudness",
            "off, or LUFS between -70 and 0",
            self.loudness,
        )
        expect(bool(self.lr), "--lr", "at least one low-res variant", "none")
        expect(self.lr_variants >= 1, "--lr-variants", "1 or more", self.lr_variants)
        expect(self.workers is None or self.workers >= 0, "--workers", "0 or more", self.workers)
        self._expect_engine()
        expect(self.limit is None or self.limit > 0, "--limit", "1 or more", self.limit)
        expect(len(self.low_res) <= 16, "--lr", "at most 16 variants in all", len(self.low_res))
        parse_chain(self.captions)

    def _expect_engine(self) -> None:
        """Options of one engine say nothing to the other."""
        expect(self.engine in ("local", "ray"), "--engine", "local or ray", self.engine)
        if self.engine == "ray":
            expect(self.workers is None, "--workers", "--encode-actors with --engine ray", "both")
        for name in ("ray_address", "encode_actors", "gpus_per_actor"):
            flag, value = "--" + name.replace("_", "-"), getattr(self, name)
            expect(value is None or self.engine == "ray", flag, "--engine ray with it", self.engine)
        actors, share = self.encode_actors, self.gpus_per_actor
        expect(actors is None or actors > 0, "--encode-actors", "1 or more", actors)
        expect(
            share is None or 0 <= share <= 1 or share == int(share),
            "--gpus-per-actor",
            "a share up to 1, or whole GPUs",
            share,
        )
        expect(self.cpu_per_task > 0, "--cpu-per-task", "more than 0", self.cpu_per_task)
        expect(self.in_flight >= 1, "--in-flight", "1 or more", self.in_flight)

    @property
    def low_res(self) -> tuple[LowRes, ...]:
        """The low-res variants in member order; random ones repeated ``lr_variants`` times."""
        specs = [parse_lr(text) for text in self.lr]
        return tuple(
            spec for spec in specs for _ in range(self.lr_variants if spec.is_random else 1)
        )

    @property
    def codec_config(self) -> CodecConfig:
        """The part of the options that chooses the codec."""
        return CodecConfig(
            name=self.codec,
            weights=self.codec_weights,
            device=self.device,
            precision=self.precision,
            compile=self.compile,
        )

    @property
    def gain_policy(self) -> GainPolicy:
        """Loudness target and silence threshold."""
        return GainPolicy(target_lufs=self.loudness)

    def excerpt_frames(self, codec: CodecSpec) -> int:
        """Length of an excerpt on the codec's frame grid."""
        return max(1, round(self.excerpt_seconds * codec.sample_rate / codec.hop))

    def stored_bytes_per_second(self, codec: CodecSpec) -> float:
        """Size of the stored arrays of all streams per second of audio."""
        item = 2  # uint16 codes and float16 coefficients alike
        channels = 2 if self.channels == "stereo" else 1
        streams = 1 + len(self.low_res)
        return codec.stored_rows * item * codec.sample_rate / codec.hop * channels * streams

    def resolved_shard_hours(self, codec: CodecSpec) -> float:
        """``shard_hours``, or as many as make shards of about 256 MB."""
        if self.shard_hours is not None:
            return self.shard_hours
        hours = TARGET_SHARD_BYTES / self.stored_bytes_per_second(codec) / 3600
        return float(f"{hours:.2g}")


def expect(condition: bool, flag: str, expected: str, found: object) -> None:
    """Raise a ``ConfigError`` that names the flag unless the condition holds."""
    if not condition:
        raise ConfigError(f"{flag}: expected {expected}, found {found!r}")
