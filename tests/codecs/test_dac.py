"""The DAC wrapper on a small random network: windows, batches, latents, decoding."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from jatsr_model.codecs import encode, frames_of
from jatsr_model.codecs.chunked import decode_chunked
from shards.statistics import shard_moments
from shards.tar import END_OF_ARCHIVE, npy_bytes, tar_run

HOP = 512
# float32 sums of a few thousand products, in another order; relative to the largest value.
ROUNDING = 3e-6
LENGTHS = sorted(
    {max(1, hops * HOP + d) for hops in range(4) for d in (-1, 0, 1)} | {9000, 20 * HOP}
)


@pytest.fixture(scope="module")
def codec(tiny_dac: Any) -> Any:
    return tiny_dac()


def whole(codec: Any, wave: Any) -> tuple[Any, Any]:
    """Features and codes of the stock network on the whole signal between 16 frames of silence."""
    frames = frames_of(wave.shape[-1], HOP)
    beyond = 16 * HOP
    padded = np.pad(wave, ((0, 0), (beyond, beyond + frames * HOP - wave.shape[-1])))
    with torch.inference_mode():
        features = codec.model.encoder(torch.from_numpy(padded)[:, None])[..., 16:-16]
        return features.numpy(), codec.model.quantizer(features)[1].numpy()


@pytest.mark.parametrize("length", LENGTHS)
def test_windows_equal_the_whole_signal(codec: Any, music: Any, length: int) -> None:
    """``encode`` goes through windows of 4 kept frames; the stock network sees everything."""
    wave = music(length, seed=length, channels=2)
    features, codes = whole(codec, wave)
    frames = frames_of(length, HOP)
    context = codec.encode_context * HOP
    signal = np.pad(wave, ((0, 0), (context, context + frames * HOP - length)))
    error = np.abs(codec.features(signal).numpy() - features).max()
    assert error < ROUNDING * np.abs(features).max()
    assert np.array_equal(encode(codec, wave), codes)


def test_contexts_are_exact_and_needed(codec: Any, music: Any) -> None:
    """In float64, where rounding does not hide anything: enough context, and hardly too much."""
    model = copy.deepcopy(codec.model).double()
    wave = torch.from_numpy(music(60 * HOP)).double()[:, None]
    z = torch.randn(1, 64, 60, dtype=torch.float64, generator=torch.manual_seed(0))
    with torch.inference_mode():
        features, sound = model.encoder(wave), model.decoder(z)

        def encoder_error(context: int) -> float:
            cut = model.encoder(wave[..., (20 - context) * HOP : (24 + context) * HOP])
            return float((cut[..., context:-context] - features[..., 20:24]).abs().max())

        def decoder_error(context: int) -> float:
            cut = model.decoder(z[..., 20 - context : 24 + context])
            kept = cut[..., context * HOP : -context * HOP]
            return float((kept - sound[..., 20 * HOP : 24 * HOP]).abs().max())

        assert encoder_error(codec.encode_context) < 1e-12 < encoder_error(codec.encode_context - 2)
        assert decoder_error(codec.decode_context) < 1e-12 < decoder_error(codec.decode_context - 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_window_depends_on_nothing_but_itself(
    tiny_dac: Any, music: Any, precision: str, batch_size: int
) -> None:
    codec = tiny_dac(precision=precision, batch_size=batch_size)
    window = music(codec.window_frames * HOP, seed=3)
    alone = codec.encode_windows(window)
    for position in range(5):
        batch = music(codec.window_frames * HOP, seed=20 + position, channels=5)
        batch[position] = window[0]
        assert np.array_equal(codec.encode_windows(batch)[position], alone[0])


def test_threads_do_not_change_codes(codec: Any, music: Any) -> None:
    wave, threads = music(30_000), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = encode(codec, wave)
        torch.set_num_threads(2)
        assert np.array_equal(encode(codec, wave), single)
    finally:
        torch.set_num_threads(threads)


def test_codes_vary_and_fill_their_type(codec: Any, music: Any) -> None:
    codes = encode(codec, music(44_100))
    assert codes.dtype == np.uint16
    assert codes.max() < 64
    assert all(len(np.unique(row)) > 8 for row in codes[0])


def test_latents_equal_the_networks_own(codec: Any, music: Any) -> None:
    codes = encode(codec, music(20_000, channels=2))
    stored = torch.from_numpy(codes.astype(np.int64))
    with torch.inference_mode():
        own, vectors, _ = codec.model.quantizer.from_codes(stored)
    assert torch.allclose(codec.latents(stored), own, rtol=0, atol=1e-5)
    assert np.array_equal(codec.latents_array(codes), codec.latents(stored).numpy())
    assert torch.equal(codec.projected(stored), vectors)
    assert torch.equal(codec.latents(torch.from_numpy(codes)), codec.latents(stored))


def test_statistics_are_of_latents_and_projections(codec: Any, tmp_path: Any) -> None:
    """Against codebook vectors looked up one by one."""
    codes = np.random.default_rng(0).integers(0, 64, (3, 1, 4, 11)).astype(np.uint16)
    runs = [tar_run(f"t_{k}", {"hr.npy": npy_bytes(part)}) for k, part in enumerate(codes)]
    (tmp_path / "x.tar").write_bytes(b"".join(runs) + END_OF_ARCHIVE)
    found = shard_moments(tmp_path / "x.tar", ["hr"], codec.spaces)
    assert found.keys() == {"hr", "hr.projected"}
    books = [q.codebook.weight.detach().numpy() for q in codec.model.quantizer.quantizers]
    flat = np.concatenate(codes[:, 0], axis=1)  # [books, frames]
    vectors = [np.concatenate([books[b][code] for b, code in enumerate(frame)]) for frame in flat.T]
    table = np.array(vectors, np.float64)
    moments = found["hr.projected"]
    assert moments.n == 33
    assert moments.mean.shape == (32,)
    np.testing.assert_allclose(moments.mean, table.mean(axis=0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(moments.variance, table.var(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(moments.min, table.min(axis=0))
    np.testing.assert_array_equal(moments.max, table.max(axis=0))
    assert found["hr"].mean.shape == (64,)


def test_latents_equal_what_encoding_quantised_to(codec: Any, music: Any) -> None:
    """Within rounding of the encoder's own sum, which adds each projection to a residual."""
    wave = torch.from_numpy(music(codec.window_frames * HOP))
    with torch.inference_mode():
        found = codec.model.encode(wave[:, None])
    z = codec.latents(found.audio_codes)
    assert (z - found.quantized_representation).abs().max() < 1e-5


def test_latents_have_any_leading_shape_and_serve_training(codec: Any) -> None:
    codes = torch.randint(0, 64, (2, 3, 4, 5))
    z = codec.latents(codes)
    assert z.shape == (2, 3, 64, 5)
    assert torch.equal(z[1, 2], codec.latents(codes[1, 2]))
    weight = torch.ones(64, 64, requires_grad=True)
    (weight @ z).sum().backward()  # an inference tensor would refuse this
    assert codec.latents(codes[..., :0]).shape == (2, 3, 64, 0)


@pytest.mark.parametrize("frames", [1, 7, 31, 64])
@pytest.mark.parametrize("per_chunk", [1, 5, 64])
def test_chunked_decoding_equals_whole(codec: Any, frames: int, per_chunk: int) -> None:
    codes = torch.randint(0, 64, (2, 4, frames), generator=torch.manual_seed(frames))
    z = codec.latents(codes)
    with torch.inference_mode():
        own = codec.model.decode(z).audio_values
        assert torch.equal(codec.decode(z), own)
        assert own.shape == (2, frames * HOP)
        assert (decode_chunked(codec, z, per_chunk) - own).abs().max() < ROUNDING


def test_decode_context_is_needed(codec: Any) -> None:
    z = codec.latents(torch.randint(0, 64, (1, 4, 60), generator=torch.manual_seed(1)))
    cut, own = codec.decode(z[..., 20:]), codec.decode(z)[:, 20 * HOP :]
    assert (cut - own)[:, : 2 * HOP].abs().max() > 1e-4
    assert (cut - own)[:, codec.decode_context * HOP :].abs().max() < ROUNDING


def test_an_empty_signal_has_no_frames(codec: Any) -> None:
    assert encode(codec, np.zeros((2, 0), np.float32)).shape == (2, 4, 0)
