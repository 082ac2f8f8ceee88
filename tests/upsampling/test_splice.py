"""The own band below, the generated one above, and nothing to be seen where they meet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt
from sounds import cut, degraded, power_spectrum, tilted

from jatsr_model.upsampling.bandwidth import Bandwidth
from jatsr_model.upsampling.splice import Crossover, Splicer, crossover_of

RATE = 44100
CROSSOVER = Crossover(3400.0, 3800.0)
WIDE = tilted(5, 4.5, channels=2)
OTHER = tilted(5, 4.5, channels=2, seed=1)


def splice(own, generated, places=(), rate=RATE, crossover=CROSSOVER):
    splicer = Splicer(rate, len(own), crossover)
    pairs = zip(cut(own, list(places)), cut(generated, list(places)), strict=True)
    return np.concatenate([*(splicer.push(*pair) for pair in pairs), splicer.flush()], axis=1)


def band(signal, low, high, rate=RATE):
    return sosfiltfilt(butter(8, [low, high], "band", fs=rate, output="sos"), signal)


def decibels(signal):
    return 10 * np.log10(np.mean(np.square(signal)) + 1e-30)


@given(st.integers(0, 60_000), st.sampled_from([8000, 44100, 96000]), st.integers(1, 3))
@settings(max_examples=20)
def test_equal_signals_come_out_bit_for_bit(samples, rate, channels):
    signal = tilted(1.5, 3, channels=channels)[:, :samples]
    np.testing.assert_array_equal(splice(signal, signal.copy(), rate=rate), signal)


@given(st.integers(0, 100_000), st.lists(st.integers(0, 100_000), max_size=8))
@settings(max_examples=20)
def test_cutting_does_not_matter_and_length_is_kept(samples, places):
    own, generated = WIDE[:, :samples], OTHER[:, :samples]
    whole = splice(own, generated)
    assert whole.shape == own.shape
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(splice(own, generated, places), whole)


@pytest.mark.parametrize("level", [0.3, 1.0, 3.0])
def test_the_own_band_is_not_touched(tmp_path, level):
    own = degraded(WIDE, "sinc:8000", tmp_path)
    error = splice(own, OTHER * np.float32(level)) - own
    hertz = np.arange(2049) * RATE / 4096
    gap = power_spectrum(own) - power_spectrum(error)
    assert gap[(hertz > 50) & (hertz < 3000)].min() > 80


def test_above_the_crossover_is_the_generated_signal(tmp_path):
    own = degraded(WIDE, "sinc:8000", tmp_path)
    spliced = splice(own, WIDE)
    error = band(spliced - WIDE, 5000, 20000)
    assert decibels(error) < decibels(band(WIDE, 5000, 20000)) - 30
    # What the own signal has there does not remain.
    hiss = own + band(OTHER, 6000, 20000).astype(np.float32)
    left = band(splice(hiss, WIDE) - spliced, 7000, 18000)
    assert decibels(left) < decibels(band(OTHER, 7000, 18000)) - 60


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("level", [0.6, 1.0, 1.6])
def test_no_step_and_no_line_at_the_cutoff(tmp_path, alike, level):
    own = degraded(WIDE, "sinc:8000", tmp_path)
    generated = np.float32(level) * (alike * WIDE + np.sqrt(1 - alike**2) * OTHER)
    changed = power_spectrum(splice(own, generated.astype(np.float32))) - power_spectrum(WIDE)
    hertz = np.arange(len(changed)) * RATE / 4096
    below, inside, above = (
        changed[(hertz > low) & (hertz < high)]
        for low, high in ((2500, 3300), (3350, 3850), (3900, 6000))
    )
    assert abs(below.mean()) < 0.2
    assert abs(above.mean() - below.mean()) < 0.5  # no step
    smooth = np.convolve(inside, np.ones(9) / 9, mode="valid")  # 100 Hz
    assert np.abs(smooth).max() < 1.5  # no line; noise alone makes 1


def _power(signal, size=16384):
    frames = np.lib.stride_tricks.sliding_window_view(signal[0], size)[:: size // 2]
    return np.square(np.abs(np.fft.rfft(frames * np.hanning(size)))).mean(axis=0)


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("edge", [2000, 8000, 16000])
def test_the_crossover_is_narrow_and_leaves_no_line(edge, alike):
    """Power in 1/24 of an octave around the crossover, and what becomes of the own band."""
    crossover = crossover_of(Bandwidth(float(edge), float(edge), 80.0, RATE), RATE)
    assert crossover is not None
    whole, other = tilted(12, 4.5), tilted(12, 4.5, seed=1)
    spectrum = np.fft.rfft(whole)
    spectrum[:, np.fft.rfftfreq(whole.shape[1], 1 / RATE) > edge] = 0
    own = np.fft.irfft(spectrum, whole.shape[1]).astype(np.float32)
    generated = (alike * whole + np.sqrt(1 - alike**2) * other).astype(np.float32)
    found = splice(own, generated, crossover=crossover)
    hertz = np.arange(8193) * RATE / 16384

    def change(middle):
        band = (hertz >= middle * 2 ** (-1 / 48)) & (hertz < middle * 2 ** (1 / 48))
        return 10 * np.log10(_power(found)[band].sum() / _power(whole)[band].sum())

    assert max(abs(change(edge * 2**octaves)) for octaves in np.linspace(-1 / 8, 1 / 12, 9)) < 1
    kept = (hertz > 50) & (hertz < 0.94 * crossover.low)
    error = _power(found - own)[kept].sum() / _power(own)[kept].sum()
    assert 10 * np.log10(error) < -80


def test_linear_weights_would_leave_a_dark_line(tmp_path):
    """The test above can fail: what it demands is not given by a plain cross-fade."""
    own = degraded(WIDE, "sinc:8000", tmp_path)
    crossing = 0.5 * band(own, 3400, 3800) + 0.5 * band(OTHER, 3400, 3800)
    assert decibels(crossing) < decibels(band(WIDE, 3400, 3800)) - 2


def test_nothing_is_generated_where_the_own_signal_is_silent(tmp_path):
    own = degraded(WIDE, "sinc:8000", tmp_path)
    own[:, 88_200:] = 0
    spliced = splice(own, OTHER)
    assert not spliced[:, 88_200 + RATE // 2 :].any()
    assert decibels(spliced[:, :60_000]) > -40


def test_a_quiet_passage_does_not_become_noise(tmp_path):
    """A network's noise floor at -60 dB, beside a passage at -100 dB."""
    own = degraded(WIDE, "sinc:8000", tmp_path)
    own[:, 88_200:] *= np.float32(1e-4)
    spliced = splice(own, np.where(np.arange(WIDE.shape[1]) < 88_200, WIDE, 0.01 * OTHER))
    quiet = spliced[:, 88_200 + RATE // 2 : -2048]
    assert decibels(quiet) < decibels(own[:, 88_200 + RATE // 2 :]) + 3


def test_the_stereo_image_is_kept(tmp_path):
    """The generated signal is too quiet; both sides are raised alike, also from one side only."""
    pan = np.array([[1.0], [0.25]], np.float32)
    spliced = splice(degraded(WIDE[:1] * pan, "sinc:8000", tmp_path), WIDE[:1] * pan * 0.7)
    left, right = band(spliced, 5000, 20000)
    np.testing.assert_allclose(right, left / 4, atol=1e-5)
    swapped = splice(WIDE[::-1].copy(), OTHER[::-1].copy())
    np.testing.assert_allclose(swapped[::-1], splice(WIDE, OTHER), atol=1e-6)


@pytest.mark.parametrize("quiet_db", [-40, -60, -80])
@pytest.mark.parametrize("generated_db", [0, -20])
def test_a_quiet_channel_beside_music_gets_no_more_than_suits_it(quiet_db, generated_db):
    """However loud a network makes it: it hears channels at other levels than it learned from."""
    low, quiet, made = 6000, 10 ** (quiet_db / 20), 10 ** (generated_db / 20)
    own = WIDE * np.float32([[1], [quiet]])
    generated = OTHER * np.float32([[1], [made]])
    loud, faint = splice(own, generated)
    for found, level in ((loud, 1.0), (faint, quiet)):
        over = decibels(band(found, low, 20000)) - decibels(level * band(OTHER[0], low, 20000))
        assert -1 < over < 7
    # The loud one is what it would be by itself.
    alone = splice(own[:1], generated[:1])[0]
    assert decibels(band(loud - alone, low, 20000)) < decibels(band(alone, low, 20000)) - 6


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_a_channel_of_zeros_gets_nothing(silent):
    own = np.insert(WIDE, silent, 0, axis=0)
    generated = np.insert(OTHER, silent, OTHER[0], axis=0)
    spliced = splice(own, generated)
    assert not spliced[silent].any()
    assert decibels(band(np.delete(spliced, silent, axis=0), 6000, 20000)) > -60


@given(
    st.lists(st.sampled_from([1.0, 0.3, 1e-3, 0.0]), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
@settings(max_examples=10)
def test_the_order_of_channels_does_not_matter(levels, random):
    order = random.sample(range(len(levels)), len(levels))
    scale = np.array(levels, np.float32)[:, np.newaxis]
    own = scale * tilted(1.5, 4.5, channels=len(levels))
    generated = tilted(1.5, 4.5, channels=len(levels), seed=1)
    spliced = splice(own, generated)
    np.testing.assert_allclose(splice(own[order], generated[order]), spliced[order], atol=1e-6)


@pytest.mark.parametrize("right", [0.7, 1.0, 1.3])
def test_one_factor_for_channels_whose_levels_are_ordinary(right):
    """A network makes one side somewhat louder than the other one: its image, not ours."""
    pan = np.float32([[1.0], [right]])
    left, other = band(splice(WIDE, pan * OTHER), 6000, 18000)
    factors = [
        np.vdot(x, y) / np.vdot(y, y)
        for x, y in zip((left, other), band(pan * OTHER, 6000, 18000), strict=True)
    ]
    assert abs(factors[1] / factors[0] - 1) < 1e-3


def test_a_crossover_above_everything_changes_nothing():
    np.testing.assert_array_equal(
        splice(WIDE, OTHER, crossover=Crossover(30_000.0, 32_000.0)), WIDE
    )


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ"):
        Splicer(RATE, 1, CROSSOVER).push(WIDE[:1], OTHER[:1, 1:])


def test_the_crossover_lies_below_the_edge():
    edge = Bandwidth(3840.0, 3780.0, 80.0, RATE)
    crossover = crossover_of(edge, RATE)
    assert crossover is not None
    assert crossover.high == edge.solid_hertz
    assert 0.97 * crossover.high < crossover.low < crossover.high
    assert crossover_of(Bandwidth(21000.0, 20900.0, 80.0, RATE), RATE) is None
    assert crossover_of(Bandwidth(RATE / 2, RATE / 2, 0.0, RATE, silent=True), 2 * RATE) is None
    # Full for its own rate, but the output can hold more.
    crossover = crossover_of(Bandwidth(4000.0, 4000.0, 0.0, 8000), RATE)
    assert crossover == Crossover(4000 / 2 ** (1 / 24), 4000.0)
