"""Normalised latents as sound, in every space, with a DAC of a few random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers import music
from torch import Tensor

from jatsr_data.normalise import Normaliser, Scale
from jatsr_model.codecs import CodecConfig, encode, load, resolve
from jatsr_model.codecs.chunked import decode_chunked
from jatsr_model.latents import LatentDecoder, codec_on
from jatsr_model.losses import AudioConsistency
from jatsr_model.losses.terms import Guess
from pipeline.fingerprint import byte_config
from pipeline.options import make_config
from shards.errors import ConfigError
from shards.manifest import Manifest

FRAMES = 40
MDCT = load(resolve(CodecConfig(name="mdct")))


@pytest.fixture(scope="module")
def tiny_dac() -> Any:
    """Four codebooks of 64 entries, 48 channels."""
    from transformers import DacConfig

    from jatsr_model.codecs.dac import DacCodec
    from jatsr_model.codecs.dac_network import build, untrained_state

    shape = DacConfig(
        encoder_hidden_size=3, downsampling_ratios=[2, 4, 8, 8], decoder_hidden_size=32,
        n_codebooks=4, codebook_size=64, codebook_dim=8, sampling_rate=44_100,
    )  # fmt: skip
    spec = resolve(CodecConfig(name="dac-44khz-untrained", device="cpu", compile=False))
    spec = replace(spec, latent_dim=48, projected_dim=32, stored_rows=4)
    return DacCodec(build(shape, untrained_state(shape, 0), "random"), spec)


class Case(NamedTuple):
    codec: Any
    normaliser: Normaliser
    stored: Tensor  # [2, rows, FRAMES]
    latents: Tensor  # [2, D, FRAMES] in the space of the normaliser

    @property
    def decoder(self) -> LatentDecoder:
        return LatentDecoder(self.codec, self.normaliser)


@pytest.fixture(params=["mdct", "dac-z", "dac-72"])
def case(request: Any, tiny_dac: Any) -> Case:
    if request.param == "mdct":
        wave = music(FRAMES * 512 / 44100 + 1e-3, channels=2).T[:, : FRAMES * 512]
        codec, stored = MDCT, torch.from_numpy(encode(MDCT, wave.astype(np.float32)))
        latents = codec.latents(stored)
    else:
        codec = tiny_dac
        stored = torch.randint(0, 64, (2, 4, FRAMES), generator=torch.Generator().manual_seed(0))
        latents = codec.projected(stored) if request.param == "dac-72" else codec.latents(stored)
    space: Any = "projected" if request.param == "dac-72" else "latents"
    generator = torch.Generator().manual_seed(1)
    hr, lr = (
        Scale(torch.randn(width, generator=generator), torch.rand(width, generator=generator) + 0.5)
        for width in (latents.shape[1],) * 2
    )
    return Case(codec, Normaliser(codec, space, hr, lr), stored, latents)


def test_projections_are_lifted_to_the_latents_they_stand_for(tiny_dac: Any) -> None:
    codes = torch.randint(0, 64, (2, 3, 4, 21), generator=torch.Generator().manual_seed(2))
    z, lifted = tiny_dac.latents(codes), tiny_dac.unproject(tiny_dac.projected(codes))
    assert lifted.shape == (2, 3, 48, 21)
    torch.testing.assert_close(lifted, z, rtol=0, atol=1e-5)
    torch.testing.assert_close(tiny_dac.decode(lifted), tiny_dac.decode(z), rtol=0, atol=1e-5)
    a, b = torch.randn(2, 32, 5, generator=torch.Generator().manual_seed(3))
    middle = (tiny_dac.unproject(a) + tiny_dac.unproject(b)) / 2
    torch.testing.assert_close(tiny_dac.unproject((a + b) / 2), middle, rtol=0, atol=1e-5)


def test_latents_sound_like_what_they_were_made_of(case: Case) -> None:
    decoder, normaliser = case.decoder, case.normaliser
    expected = case.codec.decode(case.codec.latents(case.stored))
    assert expected.abs().max() > 0.01
    for found in (
        decoder(normaliser.hr.apply(case.latents)),
        decoder.low(normaliser.lr.apply(case.latents)),
        decoder.stored(case.stored),
    ):
        assert found.shape == (2, FRAMES * decoder.hop)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_embedded_codec_gives_the_music_back() -> None:
    wave = music(1.0, channels=2).T.astype(np.float32)
    scale = Scale(torch.full((512,), 0.01), torch.full((512,), 0.3))
    normaliser = Normaliser(MDCT, "latents", scale, scale)
    data = scale.apply(MDCT.latents(torch.from_numpy(encode(MDCT, wave))))
    found = LatentDecoder(MDCT, normaliser)(data)[:, : wave.shape[1]]
    assert np.abs(found.numpy() - wave).max() < 2e-3  # float16 of the stored coefficients


def test_any_leading_shape_and_any_chunks(case: Case) -> None:
    data = case.normaliser.hr.apply(case.latents)
    whole = case.decoder(data)
    assert torch.equal(case.decoder(data[:, None])[:, 0], whole)
    assert case.decoder(data[..., :0]).shape == (2, 0)
    for chunk in (1, 7, FRAMES):
        pieces = LatentDecoder(case.codec, case.normaliser, chunk)(data)
        torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-5)


def test_gradients_are_those_of_the_plain_decoder(case: Case) -> None:
    data = case.normaliser.hr.apply(case.latents).requires_grad_()
    with torch.inference_mode():  # what is kept on the way must not be of inference
        case.decoder(data)
    weights = torch.randn(2, FRAMES * 512, generator=torch.Generator().manual_seed(4))
    (weights * LatentDecoder(case.codec, case.normaliser, 16)(data)).sum().backward()
    direction = torch.randn(data.shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        up, down = (case.decoder(data + e * direction) for e in (1e-3, -1e-3))
    slope = float((weights * (up - down)).sum()) / 2e-3
    assert data.grad is not None
    assert float((data.grad * direction).sum()) == pytest.approx(slope, rel=0.02)


def test_consistency_in_audio_can_use_it(case: Case) -> None:
    """Sound that equals the low-res signal loses nothing; other sound is pulled there."""
    low = case.normaliser.hr.apply(case.latents)
    loss = AudioConsistency(decode=case.decoder, hop=case.decoder.hop, frames=8)
    other = torch.zeros_like(low).requires_grad_()
    cutoff = torch.tensor([0.5, 0.9])

    def cost(data: Tensor) -> Tensor:
        return loss(Guess(output=data, target=low, data_hat=data, data=low, low=low, cutoff=cutoff))

    assert cost(low).max() < 1e-6
    cost(other).sum().backward()
    assert other.grad is not None
    assert other.grad.isfinite().all()
    assert other.grad.abs().max() > 0
    assert (cost((other - 1e-3 * other.grad / other.grad.norm()).detach()) < cost(other)).any()


def test_autocast_does_not_reach_the_sound(case: Case) -> None:
    data = case.normaliser.hr.apply(case.latents)
    with torch.autocast("cpu", torch.bfloat16):
        found = (case.decoder(data), case.decoder.stored(case.stored))
    assert torch.equal(found[0], case.decoder(data))
    assert torch.equal(found[1], case.decoder.stored(case.stored))
    assert case.decoder(data.bfloat16()).dtype == torch.float32


def test_what_does_not_fit_is_refused(tiny_dac: Any) -> None:
    scale = Scale(torch.zeros(32), torch.ones(32))
    projected = Normaliser(tiny_dac, "projected", scale, scale)
    with pytest.raises(ConfigError, match="mdct has no projections"):
        LatentDecoder(MDCT, projected)
    with pytest.raises(ConfigError, match=r"\[..., 32, T\]"):
        LatentDecoder(tiny_dac, projected)(torch.zeros(1, 31, 4))


def test_the_codec_of_a_dataset_decodes_where_it_is_told() -> None:
    spec = resolve(CodecConfig(name="mdct"))
    manifest = Manifest("", byte_config(make_config({}), spec, None), {}, {})
    codec = codec_on("cpu", manifest)
    z = torch.randn(1, 512, 3)
    assert torch.equal(codec.decode(z), decode_chunked(codec, z, 3))


def test_untrained_dac_goes_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve(CodecConfig(name="dac-44khz-untrained", device="cpu", compile=False))
    manifest = Manifest("", byte_config(make_config({}), spec, None), {}, {})
    asked = []
    monkeypatch.setattr("jatsr_model.latents.load", asked.append)
    codec_on(torch.device("cuda:1"), manifest)
    assert [(spec.name, spec.device) for spec in asked] == [("dac-44khz-untrained", "cuda:1")]
