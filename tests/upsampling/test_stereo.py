"""The stereo image above the cutoff is that below it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from upsamplings import dull, read, write

from jatsr_model.dit import Conditions
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.output_format import output_format
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.rendering import Job
from jatsr_model.upsampling.settings import Settings
from jatsr_model.upsampling.stereo import SPAN, correlation, kinds_of, mixed, mixing

RATE = 16_000
CUT = 186  # bins of a latent frame below 8 kHz
Through = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Ideal(nn.Module):
    """The network that knows noise perfectly, for latents of the embedded codec.

    Above the cutoff its music is normal with the level that the low band has there, so that
    whatever it makes follows from the noise alone.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.config = model.network.config
        self.weight = nn.Parameter(torch.ones(1))
        scales = model.decoder.normaliser
        self._ratio = scales.lr.std / scales.hr.std

    def forward(
        self, z: Tensor, t: Tensor, given: Conditions, lengths: Tensor | None = None
    ) -> Tensor:
        """The mean of what may be under ``z``."""
        assert given.low is not None
        data = given.low * self._ratio
        level = data[:, CUT - 64 : CUT - 16].square().mean(dim=(1, 2), keepdim=True)
        t = t[:, None, None]
        above = t * level * z / (t * t * level + (1 - t) ** 2)
        return torch.cat([data[:, :CUT], above[:, CUT:]], dim=1)


@pytest.fixture
def through(model: Model, tmp_path: Path) -> Through:
    """Through the ideal network."""
    ideal = replace(model, network=Ideal(model))
    return lambda signal: _render(ideal, signal, tmp_path)


def _render(model: Model, signal: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    source, target = write(folder / "in.wav", signal, RATE), folder / "out/in.wav"
    renderer = Renderer(model, Settings(steps=8), output_format(target, "float"))
    ((_, result),) = renderer.run([Job(source=source, target=target, digest="noise")])
    assert result.status == "ok", result
    return read(target)[0]


def _band(signal: NDArray[np.float32], low: float, high: float) -> NDArray[np.complex128]:
    hertz = np.fft.rfftfreq(signal.shape[1], 1 / 44100)
    return np.fft.rfft(signal)[:, (hertz >= low) & (hertz < high)]


def below(signal: NDArray[np.float32]) -> NDArray[np.complex128]:
    """The octave below the crossover, nearly."""
    return _band(signal, 4000, 7000)


def above(signal: NDArray[np.float32]) -> NDArray[np.complex128]:
    """What was generated."""
    return _band(signal, 8500, 18000)


def alike(pair: NDArray[np.complex128]) -> float:
    """Correlation of two channels, from -1 to 1."""
    left, right = pair
    powers = np.vdot(left, left).real * np.vdot(right, right).real
    return float(np.vdot(left, right).real / np.sqrt(powers))


def width(pair: NDArray[np.complex128]) -> float:
    """Power of the sides over that of the middle, in dB."""
    left, right = pair
    middle, sides = np.vdot(left + right, left + right), np.vdot(left - right, left - right)
    return float(10 * np.log10(sides.real / middle.real))


MIXES = {
    "independent": [[1.0, 0.0], [0.0, 1.0]],
    "nearly mono": [[0.9, 0.3], [0.9, -0.3]],
    "more middle than sides": [[0.8, 0.5], [0.8, -0.5]],
    "more sides than middle": [[0.5, 0.8], [0.5, -0.8]],
    "nearly opposite": [[0.3, 0.9], [0.3, -0.9]],
    "two on their sides": [[1.0, 0.3], [0.3, 1.0]],
}


@pytest.mark.parametrize("name", MIXES)
def test_correlation_and_width_go_on_above_the_cutoff(through: Through, name: str) -> None:
    mix = np.array(MIXES[name], np.float32)
    found = through(mix @ dull(4.0, RATE))
    assert abs(alike(above(found)) - alike(below(found))) < 0.08
    assert abs(width(above(found)) - width(below(found))) < 1.5


def test_one_noise_for_all_channels_would_put_everything_in_the_centre(
    through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: the network alone does not keep the image."""
    monkeypatch.setattr(
        "jatsr_model.upsampling.requests.correlation", lambda wave, *_: np.ones((len(wave),) * 2)
    )
    found = through(dull(4.0, RATE))
    assert abs(alike(below(found))) < 0.05
    assert alike(above(found)) > 0.9
    assert width(above(found)) < -10


def test_an_image_that_changes_is_followed(through: Through) -> None:
    signal = dull(8.0, RATE)
    signal[1, : 4 * RATE] = 0.5 * signal[0, : 4 * RATE]
    found = through(signal)
    mono, wide = found[:, : 3 * 44100], found[:, 5 * 44100 :]
    assert alike(above(mono)) > 0.9
    assert abs(alike(above(wide))) < 0.1


@pytest.mark.parametrize("ideal", [False, True])
def test_opposite_channels_stay_opposite_to_the_last_bit(
    model: Model, tmp_path: Path, ideal: bool
) -> None:
    network = replace(model, network=Ideal(model)) if ideal else model
    left, other = dull(2.0, RATE)
    found = _render(network, np.stack([left, -left, other, left]), tmp_path)
    np.testing.assert_array_equal(found[1], -found[0])
    np.testing.assert_array_equal(found[3], found[0])
    assert abs(alike(above(found[[0, 2]]))) < 0.1 or not ideal
    assert np.abs(above(found[:1])).mean() > 0.1 * np.abs(below(found[:1])).mean()


def test_what_is_panned_stays_so(through: Through) -> None:
    signal = np.array([[1.0], [0.25]], np.float32) * dull(3.0, RATE, 1)
    found = through(signal)
    left, right = above(found)
    assert alike(above(found)) > 0.99
    assert abs(20 * np.log10(np.linalg.norm(left) / np.linalg.norm(right)) - 12) < 1


def test_a_silent_channel_beside_music_stays_silent(model: Model, tmp_path: Path) -> None:
    music = dull(2.0, RATE)
    found = _render(model, np.insert(music, 1, 0, axis=0), tmp_path)
    assert not found[1].any()
    assert above(found[[0, 2]]).any()


def test_only_the_octave_below_the_cutoff_is_compared() -> None:
    """As with music, whose bass is in the middle whatever the rest is."""
    bass, left, right = dull(1.0, 44100, 3)[:, :SPAN]
    hertz = np.fft.rfftfreq(SPAN, 1 / 44100)
    low = np.fft.irfft(np.where(hertz < 3000, np.fft.rfft(bass), 0))
    high = np.fft.irfft(np.where(hertz > 8500, np.fft.rfft(bass), 0))
    wave = np.stack([0.1 * left + low - high, 0.1 * right + low + high]).astype(np.float32)
    assert abs(correlation(wave, 8000, 44100)[0, 1]) < 0.1


@pytest.mark.parametrize(("cutoff", "rate"), [(1000, 44100), (16000, 44100), (3999, 8000)])
def test_correlations_are_what_they_should_be(cutoff: float, rate: int) -> None:
    one, other = dull(SPAN / 44100 + 1e-3, 44100)[:, :SPAN]
    wave = np.stack([one, other, -0.01 * one, 0 * one, one, 0.6 * one + 0.8 * other])
    found = correlation(wave, cutoff, rate)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert np.array_equal(np.diagonal(found), np.ones(6))
    np.testing.assert_allclose(found[0, [2, 4]], [-1, 1], atol=1e-6)
    assert not found[3, [0, 1, 2, 4, 5]].any()
    spread = 0.15 if cutoff == 1000 else 0.08
    np.testing.assert_allclose(found[0, [1, 5]], [0, 0.6], atol=spread)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
@examples(max_examples=30)
def test_mixtures_have_the_correlations_and_variance_one(
    channels: int, rank: int, seed: int
) -> None:
    sources = np.random.default_rng(seed).standard_normal((channels, rank))
    sources /= np.linalg.norm(sources, axis=1, keepdims=True)
    wanted = sources @ sources.T
    (weights,) = mixing(wanted[np.newaxis])
    np.testing.assert_allclose(weights @ weights.T, wanted, atol=1e-5)
    (single,) = mixing(np.ones((1, channels, channels)))
    np.testing.assert_allclose(single, np.eye(channels)[[0] * channels], atol=1e-6)


def test_a_frame_of_a_mixture_does_not_depend_on_the_others() -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal((3, 5, 40)).astype(np.float32)
    weights = random.standard_normal((40, 3, 3)).astype(np.float32)
    whole = mixed(noise, weights)
    np.testing.assert_allclose(whole, np.einsum("tuc,cdt->udt", weights, noise), atol=1e-5)
    for first, last in ((0, 1), (3, 20), (39, 40)):
        np.testing.assert_array_equal(
            mixed(noise[..., first:last], weights[first:last]), whole[..., first:last]
        )


def test_kinds_are_found_by_latents_and_opposites_by_their_wave() -> None:
    wave = dull(0.1, 44100, 2)[[0, 1, 0, 1, 0]] * np.float32([[1], [1], [-1], [1], [1]])
    stored = np.array([[0], [1], [2], [1], [0]])
    kinds = kinds_of(stored, wave)
    assert (kinds.first, kinds.which) == ([0, 1], [0, 1, 0, 1, 0])
    assert kinds.signs.ravel().tolist() == [1, 1, -1, 1, 1]
