from __future__ import annotations

import numpy as np
import pytest

from pipeline.stages.mix import MAX_CHANNELS, mix, mix_name


def noise(frames: int, channels: int) -> np.ndarray:
    return np.random.default_rng(channels).uniform(-1, 1, (frames, channels)).astype(np.float32)


def test_mono_of_two_channels_is_their_mean() -> None:
    block = noise(1000, 2)
    np.testing.assert_allclose(mix(block, "mono")[0], block.mean(axis=1), atol=1e-7)


def test_one_channel_is_copied_to_both_sides() -> None:
    block = noise(1000, 1)
    stereo = mix(block, "stereo")
    np.testing.assert_array_equal(stereo[0], block[:, 0])
    np.testing.assert_array_equal(stereo[1], block[:, 0])
    np.testing.assert_array_equal(mix(block, "mono")[0], block[:, 0])


def test_stereo_stays_stereo() -> None:
    block = noise(1000, 2)
    np.testing.assert_array_equal(mix(block, "stereo"), block.T)


@pytest.mark.parametrize("channels", range(1, MAX_CHANNELS + 1))
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_full_scale_never_clips_and_shape_holds(channels: int, layout: str) -> None:
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (4096, channels)).astype(np.float32)
    mixed = mix(signs, layout)
    assert mixed.dtype == np.float32
    assert mixed.flags.c_contiguous
    assert mixed.shape == (1 if layout == "mono" else 2, 4096)
    assert np.abs(mixed).max() <= 1 + 1e-6
    assert np.abs(mixed).max() > 0.7  # and is not needlessly quiet


@pytest.mark.parametrize("channels", range(3, MAX_CHANNELS + 1))
def test_mono_is_the_mean_of_the_stereo_downmix(channels: int) -> None:
    block = noise(512, channels)
    np.testing.assert_allclose(mix(block, "mono")[0], mix(block, "stereo").mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "sides"),
    [
        (3, "LRC"),
        (4, "LRLR"),
        (5, "LRCLR"),
        (6, "LRC-LR"),
        (7, "LRC-CLR"),
        (8, "LRC-LRLR"),
    ],
)
def test_every_speaker_goes_to_its_side(channels: int, sides: str) -> None:
    for index, side in enumerate(sides):
        block = np.zeros((1, channels), np.float32)
        block[0, index] = 1
        left, right = mix(block, "stereo")[:, 0]
        expected = {"L": (True, False), "R": (False, True), "C": (True, True), "-": (False, False)}
        assert (left > 0, right > 0) == expected[side]
        if side == "C":
            assert left == right


@pytest.mark.parametrize("channels", range(1, MAX_CHANNELS + 1))
def test_cutting_does_not_matter(channels: int) -> None:
    block = noise(777, channels)
    whole = mix(block, "stereo")
    parts = [mix(part, "stereo") for part in np.split(block, [1, 2, 100, 513])]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_nine_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8 channels, found 9"):
        mix(noise(4, 9), "mono")


def test_names_tell_layouts_apart() -> None:
    names = {mix_name(n, "mono") for n in range(1, 9)} | {
        mix_name(n, "stereo") for n in range(1, 9)
    }
    assert len(names) == 16
    assert mix_name(6, "stereo") == "5.1->stereo"
