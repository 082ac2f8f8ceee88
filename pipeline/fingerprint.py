"""One fingerprint covers all that influences the bytes of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jatsr_model.codecs import CodecSpec
from pipeline.captions import parse_chain
from pipeline.config import BuildConfig
from pipeline.graph import STAGE_VERSIONS
from shards.errors import ConfigError
from shards.files import sha256_json
from shards.layout import FORMAT_VERSION

FLAGS = {
    "codec": "--codec, --codec-weights, --device, --precision or --no-compile",
    "channels": "--channels",
    "degrade": "--lr or --lr-variants",
    "loudness": "--loudness",
    "split": "--val-fraction or --split-by",
    "excerpt_frames": "--excerpt-seconds",
    "shard_hours": "--shard-hours",
    "captions": "--captions",
    "stages": "the jatsr release (its stages have changed)",
    "format_version": "the jatsr release (its dataset format has changed)",
}


def byte_config(
    config: BuildConfig, codec: CodecSpec, caption_model: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Everything that influences the bytes of a dataset, JSON-ready.

    Args:
        config: the options.
        codec: as resolved.
        caption_model: identity of the captioning model, where there is one.
    """
    policy = config.gain_policy
    return {
        "format_version": FORMAT_VERSION,
        "codec": {
            **codec.identity,
            "sample_rate": codec.sample_rate,
            "hop": codec.hop,
            "latent_dim": codec.latent_dim,
            **({"projected_dim": codec.projected_dim} if codec.projected_dim else {}),
            "stored_rows": codec.stored_rows,
            "stored_dtype": codec.stored_dtype,
        },
        "channels": config.channels,
        "degrade": {
            "lr": [str(spec) for spec in config.low_res],
            "versions": {spec.kind: spec.version for spec in config.low_res},
        },
        "loudness": {
            "target_lufs": policy.target_lufs,
            "ceiling": policy.ceiling,
            "silence_lufs": policy.silence_lufs,
        },
        "split": {"by": config.split_by, "val_fraction": config.val_fraction},
        "excerpt_frames": config.excerpt_frames(codec),
        "shard_hours": config.shard_hours,  # null: follows from codec, channels and degrade
        "captions": {
            "sources": list(parse_chain(config.captions).sources),
            "model": caption_model,
        },
        "stages": dict(STAGE_VERSIONS),
    }


def fingerprint(byte_configuration: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of ``byte_config``."""
    return sha256_json(byte_configuration)


def expect_same(found: Mapping[str, Any], wanted: Mapping[str, Any], place: str) -> None:
    """Refuse to mix two configurations in one folder.

    Raises:
        ConfigError: names the differing fields, their values and flags.
    """
    differing = [key for key in FLAGS if found.get(key) != wanted.get(key)]
    if not differing:
        return
    lines = [
        f"  {key} ({FLAGS[key]}): there {_difference(found.get(key), wanted.get(key))}"
        for key in differing
    ]
    raise ConfigError(
        f"{place} was built with other options:\n" + "\n".join(lines),
        hint="give the same options as then, choose another DEST, "
        "or replace what is there with --rebuild",
    )


def _difference(found: Any, wanted: Any) -> str:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        keys = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        return "; ".join(f"{k} {found.get(k)!r}, now {wanted.get(k)!r}" for k in keys)
    return f"{found!r}, now {wanted!r}"
