"""The original implementation, if it is importable, on the same random weights."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from jatsr_model.codecs.dac_network import build, read_state
from jatsr_model.codecs.descript import to_transformers

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dac") is None, reason="descript-audio-codec is not installed"
)


class _Stub(ModuleType):
    """Any attribute is a class: enough for what the original imports but the network ignores."""

    INTERN: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {"INTERN": [], "EXTERN": []})


def _stub(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    module = _Stub(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__path__ = []
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.fixture(scope="module")
def original() -> Any:
    """Submodules of ``dac`` with only those dependencies that do arithmetic."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("audiotools") is None:
            audiotools, ml = _stub(patch, "audiotools"), _stub(patch, "audiotools.ml")
            base = type("BaseModel", (torch.nn.Module,), {"INTERN": [], "EXTERN": []})
            ml.BaseModel = base  # type: ignore[attr-defined]
            audiotools.ml = ml  # type: ignore[attr-defined]
            audiotools.AudioSignal = object  # type: ignore[attr-defined]
            audiotools.STFTParams = object  # type: ignore[attr-defined]
        if importlib.util.find_spec("argbind") is None:
            argbind = _stub(patch, "argbind")
            argbind.bind = lambda *_, **__: lambda function: function  # type: ignore[attr-defined]
        if importlib.util.find_spec("einops") is None:
            _stub(patch, "einops").rearrange = _rearrange  # type: ignore[attr-defined]
        from dac.model.dac import DAC

        yield DAC


def _rearrange(x: torch.Tensor, pattern: str, **sizes: int) -> torch.Tensor:
    """The two patterns of the quantiser."""
    if pattern == "b d t -> (b t) d":
        return x.transpose(1, 2).reshape(-1, x.shape[1])
    assert pattern == "(b t) -> b t"
    return x.reshape(sizes["b"], -1)


@pytest.fixture(scope="module")
def network(original: Any, tiny_config: Any) -> Any:
    """A small original network, every weight random, weight norm away from the identity."""
    generator = torch.Generator().manual_seed(0)
    shape = tiny_config
    with pytest.warns(FutureWarning):
        model = original(
            encoder_dim=shape.encoder_hidden_size,
            encoder_rates=list(shape.downsampling_ratios),
            decoder_dim=shape.decoder_hidden_size,
            decoder_rates=list(shape.upsampling_ratios),
            n_codebooks=shape.n_codebooks,
            codebook_size=shape.codebook_size,
            codebook_dim=shape.codebook_dim,
        ).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("alpha") or name.endswith("weight_g"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            else:
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def loaded(network: Any, tiny_config: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("weights") / "weights.pth"
    metadata = {"kwargs": {"sample_rate": 44_100}}
    torch.save({"state_dict": network.state_dict(), "metadata": metadata}, path)
    return build(tiny_config, read_state(path, "descript", tiny_config), str(path))


def test_every_name_maps_to_one_of_the_same_shape(network: Any, loaded: Any) -> None:
    state = to_transformers(network.state_dict(), 4)
    expected = {k: v.shape for k, v in loaded.state_dict().items()}
    assert {k: v.shape for k, v in state.items()} == expected


def test_latents_codes_and_sound_are_equal(network: Any, loaded: Any, music: Any) -> None:
    wave = torch.from_numpy(music(64 * 512, channels=2))[:, None]
    with torch.inference_mode():
        z, codes, projected, *_ = network.encode(wave)
        mine = loaded.encode(wave)
        assert torch.equal(mine.quantized_representation, z)
        assert torch.equal(mine.audio_codes, codes)
        assert torch.equal(mine.projected_latents, projected)
        assert torch.equal(loaded.decode(z).audio_values, network.decode(z)[:, 0])
