"""Windows cover a signal, give each other enough context, and are joined without a seam."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sounds import cut
from upsamplings import dull

from jatsr_model.upsampling.joints import Joiner, fade
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.requests import Pending, Requests, window_rolloff
from jatsr_model.upsampling.rolling import Rolling
from jatsr_model.upsampling.settings import Settings
from jatsr_model.upsampling.windows import SPLINT, Layout, layout_for
from shards.envelope import FFT_SIZE, HOP
from shards.errors import ConfigError

HALF = FFT_SIZE // 2


@given(st.sampled_from([(32, 1), (64, 1), (128, 12), (512, 1), (512, 12)]), st.integers(0, 3000))
def test_windows_cover_a_signal_and_have_their_context(shape: tuple[int, int], frames: int) -> None:
    layout = layout_for(*shape)
    windows = list(layout.windows(frames))
    assert [w.start for w in windows] == sorted({w.start for w in windows})
    assert (windows[0].first, windows[-1].last) == (0, frames) if frames else windows == []
    for window in windows:
        assert 0 <= window.start <= window.first < window.last <= window.stop <= frames
        assert window.frames == min(layout.window, frames)
    for one, other in pairwise(windows):
        assert one.last - other.first == layout.span
        # what the codec needs is there on both sides of the fade, and the network has more
        assert one.stop - one.last >= layout.context - SPLINT >= shape[1]
        assert other.first - other.start >= layout.context - SPLINT
    for one, _, third in zip(windows, windows[1:], windows[2:], strict=False):
        assert one.last <= third.first  # never three at once


def test_windows_do_not_depend_on_what_comes_later() -> None:
    layout = layout_for(64, 1)
    long, short = list(layout.windows(1000)), list(layout.windows(400))
    assert long[: len(short) - 2] == short[:-2]


def test_a_window_that_is_too_short_says_how_long_it_should_be() -> None:
    with pytest.raises(ConfigError, match="too short") as caught:
        layout_for(32, 12)
    least = int(caught.value.hint.split("--window-frames ")[1].split(" ")[0])
    assert layout_for(least, 12).stride > 0
    with pytest.raises(ConfigError):
        Layout(40, 4, 30)


def _noises(seed: int, likeness: float, samples: int) -> tuple[NDArray, NDArray]:
    random = np.random.default_rng(seed)
    one, other = random.standard_normal((2, 2, samples)).astype(np.float32)
    return one, (likeness * one + np.sqrt(1 - likeness**2) * other).astype(np.float32)


@pytest.mark.parametrize("likeness", [0.0, 0.5, 0.95])
def test_a_fade_keeps_the_power_however_alike_the_two_are(likeness: float) -> None:
    edge, samples = 1024, 40 * 512
    powers = []
    for seed in range(20):
        faded = fade(*_noises(seed, likeness, samples), edge)
        powers.append(np.square(faded).reshape(2, 40, 512).mean(axis=(0, 2)))
    mean = np.mean(powers, axis=0)
    assert np.abs(10 * np.log10(mean)).max() < 0.35  # of 20 * 1024 values: 0.1 dB each


def test_likeness_is_judged_frequency_by_frequency() -> None:
    # alike below 5 kHz, unlike above: no bump in the one, no dip in the other
    samples, low, high = 40 * 512, [], []
    split = int(samples * 5000 / 44100)
    for seed in range(16):
        spectra = np.fft.rfft(np.stack(_noises(seed, 0.0, samples)))
        spectra[1, :, :split] = spectra[0, :, :split]
        one, other = np.fft.irfft(spectra, samples).astype(np.float32)
        faded = np.fft.rfft(fade(one, other, 1024)[:, 16 * 512 : 24 * 512] * np.hanning(8 * 512))
        power = np.square(np.abs(faded)).mean(axis=0) / np.square(np.hanning(8 * 512)).sum()
        low.append(power[20:380].mean())
        high.append(power[560:].mean())
    assert abs(10 * np.log10(np.mean(low))) < 0.3
    assert abs(10 * np.log10(np.mean(high))) < 0.3


def test_a_fade_of_equals_changes_nothing_and_its_ends_are_pure() -> None:
    one, other = _noises(0, 0.3, 12 * 512 + 100)
    assert np.array_equal(fade(one, one, 1024), one)
    faded = fade(one, other, 1024)
    assert np.array_equal(faded[:, :512], one[:, :512])
    np.testing.assert_allclose(faded[:, -512:], other[:, -512:], atol=1e-5)
    zero = np.zeros_like(one)
    assert not fade(zero, zero, 1024).any()


def test_windows_of_one_signal_are_joined_to_that_signal() -> None:
    layout, hop = layout_for(64, 1), 512
    signal = dull(200 * hop / 44100 + 1e-3, 44100)[:, : 200 * hop]
    joiner, windows = Joiner(layout.span, hop), list(layout.windows(200))
    pieces = [
        joiner.take(w, signal[:, w.first * hop : w.last * hop], last=w is windows[-1])
        for w in windows
    ]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), signal)


def test_rolling_gives_what_it_holds_and_zeros_around() -> None:
    rolling, whole = Rolling(np.zeros((2, 0), np.int64)), np.arange(20).reshape(2, 10)
    for piece in cut(whole, [3, 3, 7]):
        rolling.append(piece)
    assert rolling.stop == 10
    np.testing.assert_array_equal(rolling.get(-2, 12), np.pad(whole, ((0, 0), (2, 2))))
    np.testing.assert_array_equal(rolling.get(12, 14), np.zeros((2, 2)))
    rolling.drop(4)
    np.testing.assert_array_equal(rolling.get(4, 6), whole[:, 4:6])
    with pytest.raises(ValueError, match="dropped"):
        rolling.get(3, 6)


def _requests(model: Model, signal: NDArray[np.float32], places: list[int]) -> list[Pending]:
    made = Requests(
        model, Settings(seed=3), layout_for(model.crop_frames, 1), "key",
        channels=signal.shape[0], samples=signal.shape[1], cutoff=8000.0,
    )  # fmt: skip
    found = [pending for piece in cut(signal, places) for pending in made.push(piece)]
    return [*found, *made.flush()]


@pytest.mark.parametrize("samples", [1, 511, 512, 30_000, 64 * 512, 64 * 512 + 1, 99_999])
def test_windows_of_a_stream_do_not_depend_on_how_it_is_cut(model: Model, samples: int) -> None:
    signal = dull(3.0, 44100)[:, :samples]
    whole = _requests(model, signal, [])
    random = np.random.default_rng(samples)
    pieces = _requests(model, signal, random.integers(0, samples + 1, 9).tolist())
    frames = -(-samples // 512)
    assert [p.window for p in whole] == list(layout_for(64, 1).windows(frames))
    assert [p.is_last for p in whole] == [False] * (len(whole) - 1) + [True]
    for one, other in zip(whole, pieces, strict=True):
        assert one.window == other.window
        assert one.request.low.equal(other.request.low)
        assert one.request.noise.equal(other.request.noise)
        assert one.request.rolloff == other.request.rolloff


def test_overlapping_windows_share_latents_and_noise(model: Model) -> None:
    for one, other in pairwise(_requests(model, dull(3.0, 44100), [])):
        overlap = one.window.stop - other.window.start
        assert overlap > 0
        assert one.request.low[..., -overlap:].equal(other.request.low[..., :overlap])
        assert one.request.noise[..., -overlap:].equal(other.request.noise[..., :overlap])


def test_equal_channels_are_sampled_once_and_silence_not_at_all(model: Model) -> None:
    mono = dull(1.0, 44100, channels=1)
    (pending, *_) = _requests(model, np.concatenate([mono, 0.5 * mono, mono]), [])
    assert pending.kinds.which == [0, 1, 0]
    assert len(pending.request.low) == 2
    for silent in _requests(model, np.zeros((2, 70_000), np.float32), []):
        assert silent.request.is_done
        assert silent.kinds.which == [0, 0]


def test_the_rolloff_of_a_window_is_what_a_dataset_has_of_it() -> None:
    from pipeline.stages.describe import Describer

    signal = dull(1.5, 44100)[:, : 64 * 512]
    describer = Describer(1, 64)
    describer.push(signal[None])
    (described,) = describer.flush(64)
    # a dataset counts one transform more at the end of a track
    padded = np.pad(signal, ((0, 0), (HALF, HALF)))
    found = window_rolloff(padded)
    assert (len(padded[0]) - FFT_SIZE) // HOP + 1 == 65
    assert found == described.rolloff[0] > 0.5
