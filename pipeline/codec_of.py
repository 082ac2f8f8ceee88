"""The codec that a dataset was made with, found again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jatsr_model.codecs import CodecConfig, CodecSpec, resolve
from shards.errors import ConfigError
from shards.manifest import Manifest


def on_cpu(codec: CodecSpec) -> CodecSpec:
    """For statistics, which do not depend on the device, on a machine that may have no other."""
    return replace(codec, device="cpu", compile=False)


def codec_of(manifest: Manifest, weights: Path | None = None) -> CodecSpec:
    """Resolve the codec of a dataset for reading it on the CPU.

    Args:
        manifest: of the dataset.
        weights: where its weights are; None for the usual places.

    Raises:
        ConfigError: no weights, or other ones than the dataset was made with.
    """
    wanted: Mapping[str, Any] = manifest.codec
    spec = resolve(CodecConfig(name=wanted["name"], weights=weights, device="cpu", compile=False))
    found, expected = (identity.get("weights_sha256") for identity in (spec.identity, wanted))
    if found != expected:
        raise ConfigError(
            f"expected codec weights with sha256 {expected}, as the dataset was made with, "
            f"found {found} in {spec.weights}",
            hint="give the file it was made with: --codec-weights PATH",
        )
    return spec
