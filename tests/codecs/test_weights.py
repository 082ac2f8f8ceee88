"""Finding, checking and reading weights: every way in, every way it can go wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jatsr_model.codecs import CodecConfig, resolve
from jatsr_model.codecs.dac_network import build, read_state, untrained_state
from jatsr_model.codecs.descript import fold_weight_norm
from jatsr_model.codecs.weights import (
    ENVIRONMENT,
    Source,
    WeightsError,
    cache_folder,
    find_weights,
)
from shards.files import sha256_file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.fixture
def state(tiny_config: Any) -> dict[str, torch.Tensor]:
    return untrained_state(tiny_config, seed=2)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_without_weights_the_error_lists_every_way() -> None:
    with pytest.raises(WeightsError) as caught:
        resolve(CodecConfig(name="dac-44khz", device="cpu"))
    for way in ("--codec-weights", ENVIRONMENT, "jatsr codec fetch", "--codec mdct"):
        assert way in caught.value.hint


def test_places_are_searched_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    cached = cache_folder() / "model.safetensors"
    cached.parent.mkdir(parents=True)
    for path in (cached, tmp_path / "named.safetensors", tmp_path / "explicit.safetensors"):
        save_file({"w": torch.full((1,), float(len(path.name)))}, path)
    assert find_weights(None).path == cached
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "named.safetensors"))
    assert find_weights(None).origin == ENVIRONMENT
    found = find_weights(tmp_path / "explicit.safetensors")
    assert (found.path.name, found.origin) == ("explicit.safetensors", "--codec-weights")
    assert found.sha256 == sha256_file(found.path)


def test_a_named_place_is_never_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "gone.pth"))
    with pytest.raises(WeightsError, match=r"gone\.pth"):
        find_weights(None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match=r"config\.json"):
        find_weights(tmp_path / "folder")
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match="layout"):
        find_weights(tmp_path / "weights.bin")


def test_hugging_face_folder_round_trip(tmp_path: Path, tiny_config: Any, state: Any) -> None:
    model = build(tiny_config, state, "test")
    model.save_pretrained(tmp_path / "hf")
    found = find_weights(tmp_path / "hf")
    assert found.layout == "hf"
    assert same(read_state(found.path, "hf", tiny_config), state)


def test_a_config_of_another_model_is_refused(tmp_path: Path, tiny_config: Any, state: Any) -> None:
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"sampling_rate": 16_000}))
    with pytest.raises(WeightsError, match="sampling_rate is 16000, expected 44100"):
        read_state(tmp_path / "model.safetensors", "hf", tiny_config)


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
@pytest.mark.parametrize("layout", ["hf", "descript"])
def test_a_file_cut_short_is_named(
    tmp_path: Path, tiny_config: Any, state: Any, keep: int, layout: Any
) -> None:
    path = tmp_path / ("w.safetensors" if layout == "hf" else "w.pth")
    if layout == "hf":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "metadata": {}}, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=path.name):
        read_state(path, layout, tiny_config)


def test_flipped_bytes_after_a_fetch_are_noticed(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    Source(url="https://example.org", revision="r", sha256=sha256_file(path)).write(path)
    assert find_weights(path).sha256 == sha256_file(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="recorded when it was fetched"):
        find_weights(path)


def test_arbitrary_pickles_are_refused(tmp_path: Path, tiny_config: Any) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {}, "metadata": Path("anything but plain data")}, path)
    with pytest.raises(WeightsError, match="arbitrary code"):
        read_state(path, "descript", tiny_config)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_state(path, "descript", tiny_config)


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_an_original_of_another_rate_is_refused(
    tmp_path: Path, tiny_config: Any, state: Any, rate: int
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state, "metadata": {"kwargs": {"sample_rate": rate}}}, path)
    with pytest.raises(WeightsError, match=f"{rate} Hz"):
        read_state(path, "descript", tiny_config)


def test_loading_is_strict(tiny_config: Any, state: Any) -> None:
    missing = {k: v for k, v in state.items() if not k.endswith("conv2.bias")}
    with pytest.raises(WeightsError, match=r"missing .*conv2\.bias"):
        build(tiny_config, missing, "w")
    with pytest.raises(WeightsError, match=r"1 unexpected .*extra"):
        build(tiny_config, {**state, "extra": torch.zeros(1)}, "w")
    wrong = {**state, "encoder.conv1.bias": torch.zeros(3)}
    with pytest.raises(WeightsError, match="of another shape"):
        build(tiny_config, wrong, "w")


def test_building_leaves_the_global_generator_alone(tiny_config: Any, state: Any) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = build(tiny_config, untrained_state(tiny_config, 2), "w")
    assert torch.equal(torch.rand(3), expected)
    assert same(dict(model.state_dict()), state)
    assert not model.training
    assert not same(untrained_state(tiny_config, 3), state)


@pytest.mark.parametrize("spelling", ["weight_g", "parametrizations"])
@pytest.mark.parametrize("kind", ["Conv1d", "ConvTranspose1d"])
def test_folding_equals_torch_weight_norm(spelling: str, kind: str) -> None:
    conv = getattr(torch.nn, kind)(6, 4, 3)
    if spelling == "weight_g":
        with pytest.warns(FutureWarning):
            torch.nn.utils.weight_norm(conv)
    else:
        torch.nn.utils.parametrizations.weight_norm(conv)
    with torch.no_grad():
        for value in conv.parameters():
            value.mul_(1.7).add_(0.1)
    x = torch.randn(1, 6, 20)
    normed = conv(x)
    state = fold_weight_norm({f"a.{k}": v.detach() for k, v in conv.state_dict().items()})
    assert state.keys() == {"a.weight", "a.bias"}
    plain = getattr(torch.nn, kind)(6, 4, 3)
    plain.load_state_dict({k.removeprefix("a."): v for k, v in state.items()})
    assert torch.equal(plain(x), normed)
