"""Resolving: decisions, refusals, and facts that must match the codecs themselves."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DacModel

from jatsr_model.codecs import CodecConfig, load, resolve
from jatsr_model.codecs.dac import DECODE_CONTEXT, ENCODE_CONTEXT
from jatsr_model.codecs.dac_network import config_44khz
from jatsr_model.codecs.weights import WeightsError
from shards.errors import ConfigError

UNTRAINED = CodecConfig(name="dac-44khz-untrained", device="cpu", compile=False)
FACTS = ["name", "sample_rate", "hop", "latent_dim", "stored_rows", "encode_context"]
FACTS += ["decode_context", "window_frames", "batch_size", "identity"]


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"name": "opus"}, "--codec"),
        ({"device": "tpu"}, "--device"),
        ({"precision": "fp16"}, "--precision"),
        ({"device": "cuda"}, "--device"),
        ({"precision": "bf16"}, "--precision"),
        ({"weights": Path("w.pth")}, "--codec-weights"),
        ({"name": "dac-44khz-untrained", "weights": Path("w.pth")}, "--codec-weights"),
    ],
)
def test_impossible_choices_name_the_flag(fields: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=flag):
        resolve(CodecConfig(**fields))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_not_replaced_by_the_cpu() -> None:
    with pytest.raises(ConfigError, match="--device cuda"):
        resolve(CodecConfig(name="dac-44khz-untrained", device="cuda"))
    assert resolve(CodecConfig(name="dac-44khz-untrained")).device == "cpu"


@pytest.mark.parametrize("config", [CodecConfig(), UNTRAINED])
def test_a_spec_is_plain_data(config: CodecConfig) -> None:
    spec = resolve(config)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert json.loads(json.dumps(spec.identity)) == spec.identity
    assert np.dtype(spec.stored_dtype)


def test_mdct_is_what_its_spec_says() -> None:
    spec = resolve(CodecConfig())
    codec = load(spec)
    assert {f: getattr(codec, f) for f in FACTS} == {f: getattr(spec, f) for f in FACTS}
    assert codec.stored_dtype == np.dtype(spec.stored_dtype)
    assert not spec.compile


def test_dac_is_what_its_spec_says() -> None:
    """The numbers stand in the spec so that planning needs no torch; the network agrees."""
    spec, shape = resolve(UNTRAINED), config_44khz()
    assert (shape.sampling_rate, shape.hop_length) == (spec.sample_rate, spec.hop)
    assert (shape.hidden_size, shape.n_codebooks) == (spec.latent_dim, spec.stored_rows)
    assert spec.projected_dim == shape.n_codebooks * shape.codebook_dim
    assert (spec.encode_context, spec.decode_context) == (ENCODE_CONTEXT, DECODE_CONTEXT)
    assert np.iinfo(spec.stored_dtype).max >= shape.codebook_size - 1
    with torch.device("meta"):
        network = DacModel(shape)
    # The original counts 76,651,890: its weight norm adds one magnitude per filter.
    assert sum(v.numel() for v in network.parameters()) == 76_620_777


def test_a_missing_compiler_is_decided_when_resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    with_compiler = CodecConfig(name="dac-44khz-untrained", device="cpu")
    monkeypatch.setenv("CXX", "/nowhere/c++")
    spec = resolve(with_compiler)
    assert not spec.compile
    assert spec.identity["numerics"]["compiled"] is False
    monkeypatch.setenv("CXX", sys.executable)  # any program that exists
    assert resolve(with_compiler).compile
    assert not resolve(UNTRAINED).compile


def test_identity_tells_everything_that_changes_bytes() -> None:
    base = resolve(UNTRAINED).identity
    half = resolve(CodecConfig(name=UNTRAINED.name, device="cpu", compile=False, precision="bf16"))
    assert base["untrained"] is True
    assert half.identity != base
    assert half.identity["numerics"] == {"device": "cpu", "precision": "bf16", "compiled": False}


def test_weights_may_not_change_between_planning_and_loading(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {}, "metadata": {}}, path)
    spec = resolve(CodecConfig(name="dac-44khz", weights=path, device="cpu", compile=False))
    assert spec.identity["weights_layout"] == "descript"
    with pytest.raises(WeightsError, match="missing"):
        load(spec)
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match="planned with"):
        load(spec)


def test_importing_the_package_is_light() -> None:
    program = (
        "import sys, jatsr_model.codecs\n"
        "from jatsr_model.codecs import CodecConfig, resolve\n"
        "resolve(CodecConfig())\n"
        "heavy = {'torch', 'transformers', 'librosa', 'soundfile'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
