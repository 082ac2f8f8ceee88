"""The MDCT against its textbook definition, and its edges, storage and chunks."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from jatsr_model.codecs import encode, frames_of
from jatsr_model.codecs.mdct import HOP, MdctCodec, compress, fold

CODEC = MdctCodec()
LENGTHS = sorted({max(0, hops * HOP + d) for hops in range(4) for d in (-1, 0, 1)} | {1, 255, 700})


def extended(wave: Any) -> Any:
    """A signal of whole hops with the continuation beyond both ends."""
    head, tail = CODEC.extend(wave[:, :HOP], "start"), CODEC.extend(wave[:, -HOP:], "end")
    return np.concatenate([head, wave, tail], axis=-1)


def test_inner_frames_equal_the_definition(music: Any) -> None:
    """c[k] = sqrt(2/N) sum w[n] x[n] cos(pi/N (n + 1/2 - N/2)(k + 1/2)) over 2N samples."""
    wave = music(4 * HOP).astype(np.float32)
    n, k = np.arange(2 * HOP), np.arange(HOP)
    window = np.sin(np.pi * (n + 0.5) / (2 * HOP))
    # The left half of a frame mirrors evenly: the phase is that of the frame's own first sample.
    basis = np.cos(np.pi / HOP * np.outer(k + 0.5, n + 0.5 - HOP / 2)) * np.sqrt(2 / HOP)
    expected = basis @ (window * wave[0, 2 * HOP - 256 : 4 * HOP - 256])
    got = fft.dct(fold(wave), type=4, norm="ortho")[0, 1]
    assert got == pytest.approx(expected, abs=2e-6)


def test_reconstruction_is_perfect_but_for_storage(music: Any) -> None:
    wave = music(40 * HOP, channels=2)
    bins = fft.dct(fold(extended(wave)), type=4, norm="ortho").swapaxes(-1, -2)
    unrounded = torch.from_numpy(np.sign(bins) * np.sqrt(np.abs(bins)))
    assert np.abs(CODEC.decode(unrounded).numpy() - wave).max() < 1e-6


def test_transform_keeps_energy(music: Any) -> None:
    """Orthogonality, the hard edges included: no sample is counted twice or lost."""
    wave = music(6 * HOP)
    bins = fft.dct(fold(extended(wave)), type=4, norm="ortho")
    assert np.sum(bins**2) == pytest.approx(np.sum(wave**2), rel=1e-5)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(1e-4, 1.0), st.integers(1, 9))
def test_stored_halves_keep_60_db(seed: int, level: float, frames: int) -> None:
    wave = np.random.default_rng(seed).standard_normal((1, frames * HOP)).astype(np.float32)
    wave *= np.float32(level)
    back = CODEC.decode(CODEC.latents(torch.from_numpy(encode(CODEC, wave)))).numpy()
    assert 10 * np.log10(np.sum(wave**2) / np.sum((wave - back) ** 2)) > 60


def test_one_frame_aliases_and_its_neighbours_cancel_it(music: Any) -> None:
    wave = music(5 * HOP)
    stored = torch.from_numpy(encode(CODEC, wave))
    alone = torch.zeros_like(stored)
    alone[..., 2] = stored[..., 2]
    inside = slice(2 * HOP, 3 * HOP)
    error_alone = np.abs(CODEC.decode(alone.float()).numpy() - wave)[:, inside].max()
    error_all = np.abs(CODEC.decode(stored.float()).numpy() - wave)[:, inside].max()
    assert error_alone > 0.05
    assert error_all < 1e-3


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("core", [1, 2, 3])
def test_chunked_encoding_is_bit_exact(music: Any, length: int, core: int) -> None:
    wave = music(length, channels=2)
    whole = encode(CODEC, wave)
    frames = frames_of(length, HOP)
    assert whole.shape == (2, HOP, frames)
    if frames == 0:
        return
    padded = np.pad(wave, ((0, 0), (0, frames * HOP - length)))
    signal = np.pad(extended(padded), ((0, 0), (0, core * HOP)))
    pieces = [
        CODEC.encode_windows(signal[:, f * HOP : (f + core + 2) * HOP])
        for f in range(0, frames, core)
    ]
    assert np.array_equal(np.concatenate(pieces, axis=-1)[..., :frames], whole)


@pytest.mark.parametrize("length", LENGTHS[1:])
def test_any_length_comes_back(music: Any, length: int) -> None:
    wave = music(length)
    back = CODEC.decode(CODEC.latents(torch.from_numpy(encode(CODEC, wave)))).numpy()
    assert back[:, :length] == pytest.approx(wave, abs=2e-3)
    assert np.abs(back[:, length:]).max(initial=0) < 2e-3


def test_a_frame_does_not_depend_on_the_batch(music: Any) -> None:
    window = music(4 * HOP, seed=1)
    alone = CODEC.encode_windows(window)
    for position in range(5):
        batch = music(4 * HOP, seed=position + 7, channels=5)
        batch[position] = window[0]
        assert np.array_equal(CODEC.encode_windows(batch)[position], alone[0])


@pytest.mark.parametrize("channels", [1, 2])
def test_the_number_of_threads_does_not_change_a_bit(channels: int) -> None:
    before = torch.get_num_threads()
    latents = [torch.randn(channels, HOP, frames) for frames in (*range(1, 20), 40)]
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append([CODEC.decode(z) for z in latents])
    torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_decode_is_differentiable() -> None:
    z = torch.randn(2, HOP, 3, dtype=torch.float32, requires_grad=True)
    CODEC.decode(z).square().sum().backward()
    # Energy of the waveform is sum z^4, the transform being orthogonal.
    assert z.grad is not None
    assert torch.allclose(z.grad, 4 * z.detach() ** 3, atol=1e-3, rtol=1e-3)


def test_float16_cannot_overflow_below_1e8() -> None:
    window = np.sin(np.pi * (np.arange(2 * HOP) + 0.5) / (2 * HOP))
    k = np.arange(HOP)[:, None] + 0.5
    basis = window * np.cos(np.pi / HOP * k * (np.arange(2 * HOP) + 0.5 - HOP / 2))
    worst = 1e8 * np.abs(basis * np.sqrt(2 / HOP)).sum(axis=1).max()
    assert np.isfinite(compress(np.asarray([worst, -worst], np.float32))).all()


def test_latents_agree(music: Any) -> None:
    stored = encode(CODEC, music(3 * HOP))
    on_device = CODEC.latents(torch.from_numpy(stored))
    assert on_device.dtype == torch.float32
    assert np.array_equal(CODEC.latents_array(stored), on_device.numpy())


def test_encoding_imports_no_torch() -> None:
    program = (
        "import sys, numpy as np\n"
        "from jatsr_model.codecs import CodecConfig, encode, load, resolve\n"
        "codec = load(resolve(CodecConfig()))\n"
        "codec.latents_array(encode(codec, np.ones((1, 2000), np.float32)))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
