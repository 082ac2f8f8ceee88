"""The codec of a dataset: the same one, or none."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from cli import jatsr
from jatsr_model.codecs import CodecConfig, resolve
from jatsr_model.codecs.of_dataset import codec_of
from pipeline.fingerprint import byte_config
from pipeline.options import make_config
from shards.errors import ConfigError
from shards.manifest import Manifest


def manifest(name: str, **changes: Any) -> Manifest:
    """Of a dataset built with a codec that differs in some facts."""
    codec = resolve(CodecConfig(name=name, device="cpu", compile=False))
    config = byte_config(make_config({}), codec, None)
    return Manifest("", {**config, "codec": {**config["codec"], **changes}}, {}, {})


@pytest.mark.parametrize("name", ["mdct", "dac-44khz-untrained"])
def test_the_codec_of_a_dataset_is_found(name: str) -> None:
    assert codec_of(manifest(name)).name == name


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"hop": 256}, {"latent_dim": 64}, {"stored_rows": 8}, {"stored_dtype": "u1"}],
)
@pytest.mark.parametrize("name", ["mdct", "dac-44khz-untrained"])
def test_another_version_of_it_is_refused(name: str, change: dict[str, Any]) -> None:
    (field, value), *_ = change.items()
    with pytest.raises(ConfigError, match=f"made with {field} {value}, here"):
        codec_of(manifest(name, **change))


def test_weights_without_anything_to_decode_are_a_mistake() -> None:
    done = CliRunner().invoke(jatsr, ["preview", "nowhere", "--codec-weights", "x.safetensors"])
    assert done.exit_code == 2
    assert "--save" in done.output
