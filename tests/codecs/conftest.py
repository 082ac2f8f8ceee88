"""Signals and a DAC small enough for tests; same strides, so the same receptive field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jatsr_model.codecs import CodecConfig, CodecSpec, resolve

if TYPE_CHECKING:
    from transformers import DacConfig

    from jatsr_model.codecs.dac import DacCodec


def synthetic_music(samples: int, seed: int = 0, channels: int = 1) -> NDArray[np.float32]:
    """Sliding tones, decaying noise bursts: float32 ``[channels, samples]``, peak below 1."""
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / 44_100
    lanes = []
    for _ in range(channels):
        pitch, rate = generator.uniform(80, 900), generator.uniform(1, 6)
        tone = np.sin(2 * np.pi * pitch * (time + 0.01 * np.sin(rate * time)))
        bursts = generator.standard_normal(samples) * np.exp(-8 * ((time * rate) % 1))
        lanes.append(0.4 * tone + 0.1 * bursts)
    return np.asarray(lanes, np.float32)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As in a pipeline worker; and the tests' small networks are slower on more threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def music() -> Callable[..., NDArray[np.float32]]:
    return synthetic_music


@pytest.fixture(scope="session")
def tiny_config() -> DacConfig:
    from transformers import DacConfig

    return DacConfig(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4, 8, 8],
        decoder_hidden_size=64,
        n_codebooks=4,
        codebook_size=64,
        codebook_dim=8,
        sampling_rate=44_100,
    )


@pytest.fixture(scope="session")
def tiny_spec() -> CodecSpec:
    """The untrained codec's spec, its numbers those of ``tiny_config``."""
    full = resolve(CodecConfig(name="dac-44khz-untrained", device="cpu", compile=False))
    return replace(
        full, latent_dim=64, projected_dim=32, stored_rows=4, window_frames=20, batch_size=3
    )


@pytest.fixture(scope="session")
def tiny_dac(tiny_config: DacConfig, tiny_spec: CodecSpec) -> Callable[..., DacCodec]:
    """``tiny_dac(seed=0, **changes of the spec)`` -> a small ``DacCodec``."""
    from jatsr_model.codecs.dac import DacCodec
    from jatsr_model.codecs.dac_network import build, untrained_state

    def make(seed: int = 0, **changes: Any) -> DacCodec:
        model = build(tiny_config, untrained_state(tiny_config, seed), "a random network")
        return DacCodec(model, replace(tiny_spec, **changes))

    return make
