"""The rearranged encoder against the stock one, eager and compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from jatsr_model.codecs.dac_encoder import FlatEncoder, Snake, compiled, sin2_polynomial
from jatsr_model.codecs.dac_network import build, untrained_state
from jatsr_model.codecs.registry import compiler_found
from shards.errors import EnvironmentFailure

HOP = 512


@pytest.fixture(scope="module")
def encoder(tiny_dac: Any) -> Any:
    return tiny_dac(seed=4).model.encoder


def test_polynomial_is_a_squared_sine() -> None:
    x = torch.linspace(-200, 200, 100_001, dtype=torch.float64)
    assert (sin2_polynomial(x) - torch.sin(x) ** 2).abs().max() < 5e-6
    assert (sin2_polynomial(x.float()) - torch.sin(x) ** 2).abs().max() < 5e-5


def test_snake_has_the_bits_of_the_stock_one(encoder: Any) -> None:
    stock = encoder.snake1
    x = torch.randn(2, stock.alpha.shape[1], 100)
    mine = Snake(stock.alpha, torch.float32)(x[:, :, None])[:, :, 0]
    assert torch.equal(mine, stock(x))


def test_flat_encoder_equals_the_stock_one(encoder: Any, music: Any) -> None:
    wave = torch.from_numpy(music(24 * HOP, channels=2))
    with torch.inference_mode():
        stock = encoder(wave[:, None])
        mine = FlatEncoder(encoder, torch.float32)(wave)
    assert mine.dtype == torch.float32
    assert (mine - stock).abs().max() < 2e-6 * stock.abs().max()


def test_bf16_stays_close_and_fp32_stays_untouched(encoder: Any, music: Any) -> None:
    wave = torch.from_numpy(music(24 * HOP))
    with torch.inference_mode():
        stock = encoder(wave[:, None])
        half = FlatEncoder(encoder, torch.bfloat16)(wave)
    error = (half - stock).norm() / stock.norm()
    assert half.dtype == torch.float32
    assert 1e-4 < error < 3e-2
    assert encoder.conv1.weight.dtype == torch.float32


@pytest.fixture(scope="module")
def short_encoder() -> Any:
    """One stage: two layers of every kind, compiled in seconds."""
    from transformers import DacConfig

    shape = {"encoder_hidden_size": 16, "decoder_hidden_size": 32, "n_codebooks": 1}
    config = DacConfig(**shape, downsampling_ratios=[8], codebook_size=16)
    return build(config, untrained_state(config, 0), "a random network").encoder


@pytest.mark.skipif(not compiler_found("cpu"), reason="needs a C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_features_equal_eager_ones(
    short_encoder: Any, music: Any, dtype: torch.dtype
) -> None:
    wave = torch.from_numpy(music(8 * HOP, channels=2))
    flat = FlatEncoder(short_encoder, dtype)
    fast = compiled(flat, torch.zeros_like(wave))
    with torch.inference_mode():
        eager, error = flat(wave), fast(wave) - flat(wave)
    assert (
        error.abs().max() < {torch.float32: 2e-6, torch.bfloat16: 2e-2}[dtype] * eager.abs().max()
    )


@pytest.mark.skipif(not compiler_found("cpu"), reason="needs a C++ compiler")
def test_a_failing_compiler_is_an_error_not_a_slower_run(
    short_encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled earlier helps
    flat = FlatEncoder(short_encoder, torch.float32)
    with (
        config.patch({"cpp.cxx": ("/bin/false",)}),
        pytest.raises(EnvironmentFailure, match="compiler failed") as caught,
    ):
        compiled(flat, torch.zeros(1, 3 * HOP))
    assert "--no-compile" in caught.value.hint


def test_flat_encoder_refuses_odd_strides() -> None:
    from transformers import DacConfig, DacModel

    config = DacConfig(encoder_hidden_size=2, decoder_hidden_size=8, downsampling_ratios=[5])
    with pytest.raises(ValueError, match="even stride"):
        FlatEncoder(DacModel(config).encoder, torch.float32)
