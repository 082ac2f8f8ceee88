"""Where spectra end: what limits a signal is found, what falls by itself is not taken for it.

Tolerances, all of the frequency in question:

* a band limit of the builder (sinc; every filter family and order with its resampling; these with
  16 or 8 bits): -6 % to +0.5 % of half the rate in between. soxr begins to fall at -9 %.
* a filter alone, without resampling, order 6 and more: unharmed up to -5 % to +35 % of its cutoff,
  ends at -3 % to +60 %, since what falls less than 80 dB per octave is content that got quieter.
* lossy codecs: 8 % of the highest frequency that they keep within 15 dB.
* anything that falls by up to 48 dB per octave, into whatever noise: no edge at all.
"""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from helpers import music
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import cut, degraded, rounded, tilted

from jatsr_model.upsampling.bandwidth import BandwidthMeter
from pipeline.stages.filters import ORDERS, TYPES, design_params, sections
from pipeline.stages.fir import ZeroPhaseFir, zero_phase_taps

RATE = 44100
PINK = tilted(3, 4.5)
STEEP = tilted(3, 12, knee=300)
BURSTS = music(4).T[:1].astype(np.float32)


def bandwidth(signal, rate=RATE, places=()):
    meter = BandwidthMeter(rate, len(signal))
    for block in cut(signal, list(places)):
        meter.push(block)
    return meter.result()


def resampled(signal, rate, to):
    return soxr.resample(signal.T, rate, to, "VHQ").T.astype(np.float32)


def assert_limited(found, cutoff, low=0.94, high=1.005):
    assert low * cutoff <= found.hertz <= high * cutoff
    assert 0.88 * cutoff <= found.solid_hertz <= found.hertz
    assert found.verdict == ("limited" if found.hertz < 0.45 * found.rate else "full")


@pytest.mark.parametrize(
    "rate", [4000, 5512, 8000, 11025, 16000, 22050, 24000, 32000, 36000, 40000]
)
def test_lower_sample_rates(tmp_path, rate):
    for signal in (PINK, STEEP, BURSTS):
        limited = degraded(signal, f"sinc:{rate}", tmp_path)
        assert_limited(bandwidth(limited), rate / 2)
        assert_limited(bandwidth(rounded(limited)), rate / 2)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_filters_of_the_builder(tmp_path, kind, order):
    for cutoff in (2000, 5300, 9700, 16000):
        limited = degraded(PINK, design_params(kind, order, cutoff), tmp_path)
        assert_limited(bandwidth(limited), cutoff)
        assert_limited(bandwidth(rounded(limited)), cutoff)


@pytest.mark.parametrize("kind", ["cheby1", "butterworth", "elliptic"])
@pytest.mark.parametrize("order", [6, 8, 10])
def test_steep_filters_alone(kind, order):
    for cutoff in (2000, 4000, 8000, 16000):
        taps = zero_phase_taps(sections(design_params(kind, order, cutoff)))
        fir = ZeroPhaseFir(taps, 1)
        limited = np.concatenate([fir.push(PINK), fir.flush()], axis=1)
        found = bandwidth(rounded(limited))
        assert 0.97 * cutoff <= found.hertz <= 1.6 * cutoff
        assert 0.95 * cutoff <= found.solid_hertz <= 1.35 * cutoff


@pytest.mark.parametrize(
    "spec",
    ["mp3:32", "mp3:48", "mp3:64", "mp3:128", "mp3:320", "vorbis:48", "vorbis:64", "vorbis:96",
     "opus:24", "opus:64", "opus:128"],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_codecs(tmp_path, spec, channels):
    for signal in (tilted(4, 4.5, channels=channels), tilted(4, 0, channels=channels)):
        damaged = degraded(signal, spec, tmp_path)
        kept = last_kept(signal, damaged)
        found = bandwidth(damaged)
        if kept > 0.95 * RATE / 2:
            assert found.verdict == "full"
        else:
            assert found.hertz == pytest.approx(kept, rel=0.08)
            assert found.solid_hertz > 0.9 * kept


def last_kept(signal, copy, parts=220):
    """The highest frequency whose power is within 15 dB of the original's."""
    powers = [np.square(np.abs(np.fft.rfft(wave))).sum(axis=0) for wave in (signal, copy)]
    width = len(powers[0]) // parts
    before, after = (p[: width * parts].reshape(parts, width).sum(axis=1) for p in powers)
    return (np.flatnonzero(after > before / 31.6)[-1] + 1) / parts * RATE / 2


@pytest.mark.parametrize("fall", [0, 3, 6, 12, 18, 24, 36, 48])
@pytest.mark.parametrize("knee", [100, 1000, 4000])
def test_spectra_that_fall_by_themselves_are_full(fall, knee):
    signal = tilted(3, fall, knee=knee)
    for version in (signal, rounded(signal), rounded(signal, 8)):
        found = bandwidth(version)
        assert found.verdict == "full"
        assert found.hertz == RATE / 2


def test_music_is_full():
    for signal in (BURSTS, rounded(BURSTS), rounded(BURSTS, 8)):
        assert bandwidth(signal).verdict == "full"


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 48000, 96000, 192000])
def test_any_sample_rate(rate):
    signal = tilted(2, 4.5, rate=rate)
    assert bandwidth(signal, rate).hertz == rate / 2
    for between in (4000, 8000, 16000, 44100):
        if between < 0.9 * rate:
            limited = resampled(resampled(signal, rate, between), between, rate)
            assert_limited(bandwidth(limited, rate), between / 2)
            assert bandwidth(limited, rate).is_below(rate)
            assert not bandwidth(limited, rate).is_below(between)


@pytest.mark.parametrize("hertz", [110, 440, 1000, 3000, 8000, 15000])
def test_tones_alone_tell_nothing(hertz):
    tone = (0.5 * np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE))[None].astype(np.float32)
    for version in (tone, rounded(tone), np.rint(tone * 32767).astype(np.float32) / 32768):
        assert bandwidth(version).verdict == "full"


@pytest.mark.parametrize("pitch", [600, 800, 1500])
def test_the_last_harmonic_of_a_voice_is_no_edge(pitch):
    time = np.arange(4 * RATE) / RATE
    phase = 2 * np.pi * pitch * (time + 0.01 / (2 * np.pi * 5) * np.sin(2 * np.pi * 5 * time))
    voice = sum(np.sin(k * phase) * 0.2 / k for k in range(1, 7000 // pitch + 1))
    for version in (voice, voice + 1e-4 * tilted(4, 6)[0]):
        signal = version[None].astype(np.float32)
        assert bandwidth(signal).verdict == "full"
        assert bandwidth(rounded(signal)).verdict == "full"


@pytest.mark.parametrize("rate", [8000, 11025, 22050])
def test_eight_bits_upsampled(rate):
    for signal in (PINK, BURSTS):
        coarse = rounded(resampled(signal, RATE, rate), 8)
        wide = resampled(coarse, rate, RATE)
        assert_limited(bandwidth(wide), rate / 2)
        assert_limited(bandwidth(rounded(wide)), rate / 2)


def test_noise_of_eight_bits_does_not_hide_an_edge(tmp_path):
    for rate in (8000, 16000, 24000):
        assert_limited(bandwidth(rounded(degraded(PINK, f"sinc:{rate}", tmp_path), 8)), rate / 2)


def test_a_floor_that_ends_is_not_the_content_that_ends(tmp_path):
    """Limited to 4 kHz and rounded at 32 kHz, whose noise ends at 16 kHz."""
    low = rounded(resampled(degraded(PINK, "sinc:8000", tmp_path), RATE, 32000))
    assert_limited(bandwidth(resampled(low, 32000, RATE)), 4000)


def test_clicks_and_pilot_tones_do_not_hide_an_edge(tmp_path):
    limited = degraded(PINK, "sinc:16000", tmp_path)
    limited += 0.01 * np.sin(2 * np.pi * 15625 * np.arange(limited.shape[1]) / RATE)
    limited[0, 50_000] += 0.5
    assert_limited(bandwidth(limited), 8000)


def test_content_that_is_there_now_and_then_counts(tmp_path):
    """A tenth of the time there is a cymbal."""
    signal = degraded(tilted(6, 4.5), "sinc:16000", tmp_path)
    for start in range(0, 6 * RATE, RATE):
        signal[0, start : start + RATE // 10] += tilted(0.1, 0)[0, : RATE // 10] / 4
    assert bandwidth(signal).verdict == "full"


def test_the_widest_channel_counts(tmp_path):
    limited = degraded(PINK, "sinc:16000", tmp_path)
    assert bandwidth(np.concatenate([limited, PINK])).verdict == "full"
    assert_limited(bandwidth(np.concatenate([limited, 0 * PINK])), 8000)


@pytest.mark.parametrize("gain", [1e-4, 0.03, 5.0])
def test_level_does_not_matter(tmp_path, gain):
    limited = degraded(PINK, "sinc:16000", tmp_path)
    quiet = bandwidth(limited * np.float32(gain))
    assert quiet.hertz == pytest.approx(bandwidth(limited).hertz, rel=0.005)
    assert bandwidth(PINK * np.float32(gain)).verdict == "full"


def test_long_silence_does_not_matter(tmp_path):
    limited = degraded(PINK, "sinc:16000", tmp_path)
    padded = np.pad(limited, ((0, 0), (60 * RATE, 60 * RATE)))
    assert bandwidth(padded).hertz == pytest.approx(bandwidth(limited).hertz, rel=0.005)


def test_silence():
    for samples in (0, 1, 10_000, 100_000):
        found = bandwidth(np.zeros((2, samples), np.float32))
        assert found.verdict == "silent"
        assert not found.is_below(96000)
    assert bandwidth(rounded(np.zeros((1, RATE), np.float32))).verdict == "full"


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0])
def test_short_sounds(tmp_path, seconds):
    limited = degraded(PINK, "sinc:16000", tmp_path)
    start, samples = 30_000, int(seconds * RATE)
    assert_limited(bandwidth(limited[:, start : start + samples]), 8000)
    assert bandwidth(PINK[:, start : start + samples]).verdict == "full"


@given(st.lists(st.integers(0, 60_000), max_size=8))
@settings(max_examples=15)
def test_cutting_does_not_matter(places):
    signal = PINK[:, :60_000]
    assert bandwidth(signal, places=places) == bandwidth(signal)


@given(
    st.integers(0, 20_000),
    st.sampled_from([1000, 8000, 44100, 192000]),
    st.integers(1, 8),
    st.integers(0, 3),
)
@settings(max_examples=40)
def test_any_length_gives_an_answer(samples, rate, channels, seed):
    signal = np.random.default_rng(seed).standard_normal((channels, samples)).astype(np.float32)
    found = bandwidth(signal, rate)
    assert 0 < found.solid_hertz <= found.hertz <= rate / 2
    assert (found.verdict == "silent") == (samples == 0)
