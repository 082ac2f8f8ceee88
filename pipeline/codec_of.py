"""The codec that a dataset was made with, found again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jatsr_model.codecs import CodecConfig, CodecSpec, resolve
from shards.errors import ConfigError
from shards.manifest import Manifest


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
    if spec.identity.get("weights") != wanted.get("weights"):
        raise ConfigError(
            f"expected the codec weights of the dataset ({wanted.get('weights')}), "
            f"found {spec.identity.get('weights')}",
            hint="give the file it was made with: --codec-weights PATH",
        )
    return spec
