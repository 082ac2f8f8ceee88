"""What envelopes are filled with: the own band, white, moved up so that partials go on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from jatsr_model.codecs import CodecConfig, encode, load, resolve
from jatsr_model.excitation import MOVED, above, excitation, shares, whitened
from jatsr_model.likeness import SIZE, Move, movable, moves

RATE = 44_100
CODEC = load(resolve(CodecConfig(name="mdct")))
Wave = NDArray[np.float32]


def sawtooth(*chord: float, end: float, frames: int = 128) -> Wave:
    """Partials up to a frequency, in a little noise."""
    time = np.arange(frames * 512) / RATE
    rng = np.random.default_rng(0)
    wave = 1e-4 * rng.standard_normal(len(time))
    for f0 in chord:
        for n in range(1, int(end / f0) + 1):
            wave += np.sin(2 * np.pi * (n * f0 * time + rng.random())) / n
    return (0.1 * wave).astype(np.float32)


def low_passed(wave: Wave, end: float) -> Wave:
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / RATE) > end] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


def latents(wave: Wave) -> Tensor:
    return torch.from_numpy(encode(CODEC, wave[None])[0]).float()


def excited(wave: Wave, end: float, noise: Tensor | None = None) -> Tensor:
    own = latents(wave)
    noise = torch.zeros_like(own) if noise is None else noise
    return excitation(CODEC, own, 4, 2 * end / RATE, noise)


def white_noise(frames: int = 128) -> Tensor:
    return torch.randn(512, frames, generator=torch.Generator().manual_seed(0))


def heard(coefficients: Tensor) -> Wave:
    z = torch.copysign(coefficients.abs().sqrt(), coefficients)
    found: Wave = CODEC.decode(z[None])[0, 4096:-4096].numpy()
    return found


def share_at_partials(wave: Wave, chord: tuple[float, ...], end: float) -> float:
    """Of the energy above a frequency, what lies within 11 Hz of a partial."""
    power = np.square(np.abs(np.fft.rfft(wave * np.blackman(len(wave)))))
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    partials = np.concatenate([f0 * np.arange(1, RATE / 2 / f0) for f0 in chord])
    near, upper = np.abs(hertz[:, None] - partials).min(1) < 11, hertz > end
    return float(power[near & upper].sum() / power[upper].sum())


@pytest.mark.parametrize("rate", [4000, 8000, 16_000])
@pytest.mark.parametrize("f0", [110.0, 196.0, 261.6, 391.9])
def test_partials_go_on_at_multiples_of_the_fundamental(f0: float, rate: int) -> None:
    end = 0.46 * rate
    wave = sawtooth(f0, end=end)
    (move,) = moves(wave, end, RATE)
    multiple = move.hertz / f0
    assert abs(multiple - round(multiple)) * f0 < 0.3
    assert move.bins.all()
    assert share_at_partials(heard(excited(wave, end)), (f0,), 1.1 * end) > 0.9


def test_tones_without_a_common_distance_are_moved_by_one_of_their_own_each() -> None:
    chord, end = (330.0, 415.3), 3700.0
    wave = sawtooth(*chord, end=end)
    first, second = moves(wave, end, RATE)
    for move in (first, second):
        assert min(abs(move.hertz - f0 * round(move.hertz / f0)) for f0 in chord) < 0.5
    assert not (first.bins & second.bins).any()
    assert (first.bins | second.bins).all()
    both = share_at_partials(heard(excited(wave, end)), chord, 1.1 * end)
    band, one = low_passed(wave, 0.92 * end), Move(first.hertz, np.ones_like(first.bins))
    alone = share_at_partials(band + above(band, [one], 0.92 * end, RATE), chord, 1.1 * end)
    assert both > 0.8
    assert both > alone + 0.2


def test_a_melody_goes_on_with_each_of_its_tones() -> None:
    """Partials change with the tone, three times a second."""
    melody = (220.0, 329.6, 246.9, 293.7, 415.3, 261.6)
    wave = np.concatenate([sawtooth(f0, end=3700, frames=28) for f0 in melody])
    made = heard(excited(wave, 3700))
    for number, f0 in enumerate(melody):
        middle = (28 * number + 14) * 512 - 4096
        if 4096 <= middle < len(made) - 4096:
            tone = made[middle - 4096 : middle + 4096]
            assert share_at_partials(tone, (f0,), 4100) > 0.7


def test_a_noise_and_a_band_too_narrow_have_no_two_distances() -> None:
    noise = np.random.default_rng(1).standard_normal(65_536).astype(np.float32)
    assert len(moves(noise, 4000.0, RATE)) == 1
    assert len(moves(noise[:100], 4000.0, RATE)) == 1
    assert len(moves(np.zeros(9000, np.float32), 4000.0, RATE)) == 1
    assert not movable(400.0)
    own = torch.from_numpy(np.random.default_rng(2).standard_normal((512, 8))).float()
    assert excitation(CODEC, own, 4, 0.015, own) is own


@pytest.mark.parametrize("hertz", [1000.0, 1003.7])
def test_a_tone_is_moved_by_exactly_so_many_hertz_up_to_the_nyquist_frequency(
    hertz: float,
) -> None:
    time = np.arange(65_536) / RATE
    tone = np.sin(2 * np.pi * 2900 * time).astype(np.float32)
    move = Move(hertz, np.ones(round(3000 * SIZE / RATE), bool))
    wave = above(tone, [move], 3000.0, RATE)[4096:-4096]
    power = np.square(np.abs(np.fft.rfft(wave * np.blackman(len(wave)))))
    place = np.fft.rfftfreq(len(wave), 1 / RATE)
    copies = int((RATE / 2 - 2900) / hertz)
    near = np.zeros(len(place), bool)
    for number in range(1, copies + 1):
        around = np.abs(place - 2900 - number * hertz) < 3
        assert power[around].sum() == pytest.approx(power.sum() / copies, rel=0.02)
        near |= around
    assert power[near].sum() > 0.999 * power.sum()
    assert abs(len(wave) * np.square(wave).mean() / (copies * len(wave) / 2) - 1) < 0.02


def test_an_excitation_of_noise_is_white_and_of_unit_power() -> None:
    rng = np.random.default_rng(0)
    steep = np.cumsum(rng.standard_normal(65_536)) * (1.3 + np.sin(np.arange(65_536) / 9000))
    wave = low_passed((1e-3 * steep).astype(np.float32), 4000)
    found = excited(wave, 4000, white_noise())
    parts = found[86:].square()
    assert float(parts.mean()) == pytest.approx(1, rel=0.1)
    by_channel, by_frame = parts.mean(1)[:424].reshape(8, -1).mean(1), parts.mean(0)
    assert float(by_channel.min() / by_channel.max()) > 0.7
    assert float(by_frame.reshape(-1, 8).mean(1).min() / by_frame.mean()) > 0.3
    # nothing but the moved band and the noise, everywhere in the ratio of their shares
    share = shares(512, 85)[86:, None]
    ours = excited(wave, 4000)[86:] / share * share[0]
    noise = white_noise()[86:]
    parts = torch.stack([(share * ours).flatten(), ((1 - share**2).sqrt() * noise).flatten()], 1)
    gains = torch.linalg.lstsq(parts.double(), found[86:].flatten()[:, None].double()).solution
    rest = found[86:].flatten() - parts @ gains.flatten().float()
    assert float(rest.abs().max()) < 1e-4
    power = float((gains[0] / gains[1]) ** 2 * ours.square().mean())
    assert power == pytest.approx(1, rel=1e-2)


def test_the_share_of_the_own_band_falls_over_two_octaves() -> None:
    found = shares(512, 100)
    assert found[:101].tolist() == [MOVED[0]] * 101
    assert float(found[200]) == pytest.approx(sum(MOVED) / 2)
    assert found[400:].numpy() == pytest.approx(MOVED[1])
    assert (found.diff() <= 0).all()


def test_an_excitation_is_as_loud_as_noise_in_the_mean_of_logarithms() -> None:
    """Of windows of four frames; partials therefore have more power than noise."""
    tones, hiss = sawtooth(220.0, 277.2, end=4000), np.asarray(white_noise().flatten())
    for wave, more, alone in ((tones, 1.4, 3.5), (hiss, 0.9, 0.9)):
        own = low_passed(wave, 4000)
        found = excited(own, 4000, white_noise())[88:].numpy()

        def level(x: Wave) -> float:
            sums = np.cumsum(np.square(x, dtype=np.float64), axis=1)
            return float(np.log(sums[:, 4:] - sums[:, :-4]).mean())

        assert level(found) == pytest.approx(level(white_noise()[88:].numpy()), abs=0.05)
        assert float(np.square(found).mean()) > more
        assert float(excited(own, 4000)[88:].square().mean()) > alone


def test_music_beside_silence_is_no_louder_for_it() -> None:
    noise = np.random.default_rng(0).standard_normal(65_536).astype(np.float32)
    wave = 0.1 * low_passed(noise, 4000)
    whole = excited(wave, 4000)[86:]
    wave[40_000:] = 0
    found = excited(wave, 4000)[86:]
    assert float(found[:, :70].square().mean()) == pytest.approx(
        float(whole[:, :70].square().mean()), rel=0.1
    )
    assert float(found[:, 90:].square().mean()) < 1e-3


def test_copies_do_not_add_up_to_pulses() -> None:
    """The envelope of what noise becomes is no spikier than that of noise."""
    band = low_passed(np.random.default_rng(0).standard_normal(65_536).astype(np.float32), 1800)
    wave = above(band, [Move(700.0, np.ones(669, bool))], 1800.0, RATE)
    crest = float(np.mean(wave**4) / np.mean(wave**2) ** 2)
    assert crest < 6  # 3 for noise; 20 and more for copies that are all in phase


def test_silence_stays_finite_and_the_own_band_is_kept_below_its_end() -> None:
    silent = torch.zeros(512, 16)
    assert excited(np.zeros(16 * 512, np.float32), 4000).isfinite().all()
    assert not whitened(silent, 80).any()
    own = torch.randn(512, 16, generator=torch.Generator().manual_seed(0))
    assert not whitened(own, 80)[80:].any()
