"""The codec that a dataset was made with, found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jatsr_model.codecs import CodecConfig, CodecSpec, resolve
from shards.errors import ConfigError
from shards.manifest import Manifest

_SAME = ("name", "version", "sample_rate", "hop", "latent_dim", "stored_rows", "stored_dtype")


def on_cpu(codec: CodecSpec) -> CodecSpec:
    """For latents of stored frames and a frame of silence, on a machine that may have no other.

    A window of silence needs one frame and its context, and costs a second at most.
    """
    window = 2 * codec.encode_context + 1
    return replace(codec, device="cpu", compile=False, batch_size=1, window_frames=window)


def codec_of(manifest: Manifest, weights: Path | None = None) -> CodecSpec:
    """Resolve the codec of a dataset for reading it on the CPU.

    Args:
        manifest: of the dataset.
        weights: where its weights are; None for the usual places.

    Raises:
        ConfigError: no weights, or other ones than the dataset was made with; or this release has
            another version of the codec.
    """
    wanted: Mapping[str, Any] = manifest.codec
    precision = wanted.get("numerics", {}).get("precision", "fp32")
    spec = resolve(
        CodecConfig(
            name=wanted["name"], weights=weights, device="cpu", precision=precision, compile=False
        )
    )
    here = {**vars(spec), **spec.identity}
    other = [key for key in _SAME if here[key] != wanted.get(key)]
    if other:
        raise ConfigError(
            f"codec {wanted['name']}: the dataset was made with "
            + ", ".join(f"{key} {wanted.get(key)}, here it has {here[key]}" for key in other),
            hint="use the jatsr release that made the dataset, or build it again with this one",
        )
    found, expected = (identity.get("weights_sha256") for identity in (spec.identity, wanted))
    if found != expected:
        raise ConfigError(
            f"expected codec weights with sha256 {expected}, as the dataset was made with, "
            f"found {found} in {spec.weights}",
            hint="give the file it was made with: --codec-weights PATH",
        )
    return on_cpu(spec)
