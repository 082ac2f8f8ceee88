"""Tones and attacks above the cutoff, on sound whose partials and moments are known.

    python benchmarks/quality.py [--model music] [--rates 4000,8000,16000]

Chords of sawtooth tones, and a melody of two of them a second: the share of the energy above the
cutoff that lies within 11 Hz of a true partial. Clicks: how loud the 20 ms before a click are, up
to 3 ms before it, against the 20 ms after it, above the cutoff. ``noise`` is the true envelope
filled with noise (``jatsr evaluate --baselines``), ``even`` what energy spread evenly over all
frequencies would have.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import soundfile
import soxr
import torch
from common import table
from numpy.typing import NDArray

from jatsr_model.metrics.baselines import filled_with_noise

RATE, SECONDS = 44_100, 6.0
CHORDS = ((110.0, 164.8, 220.0), (196.0, 246.9, 293.7), (130.8,), (330.0, 415.3), (523.3,))
MELODY = (220.0, 329.6, 246.9, 293.7, 415.3, 261.6, 349.2, 196.0, 440.0, 277.2, 311.1, 233.1)
N_FFT = 8192
NEAR_HZ = 11.0
Signal = NDArray[np.float32]


@click.command()
@click.option("--model", default="music", show_default=True)
@click.option("--rates", default="4000,8000,16000", show_default=True)
def main(model: str, rates: str) -> None:
    """Measure."""
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        for rate in map(int, rates.split(",")):
            tones = [share_at_partials(model, [chord], rate, Path(name)) for chord in CHORDS]
            rows.append((rate, "chords, %", *(f"{100 * x:.0f}" for x in np.mean(tones, 0))))
            melody = share_at_partials(model, [(f0,) for f0 in MELODY], rate, Path(name))
            rows.append((rate, "melody, %", *(f"{100 * x:.0f}" for x in melody)))
            echoes = before_clicks(model, rate, Path(name))
            rows.append((rate, "before clicks, dB", *(f"{x:.1f}" for x in echoes), ""))
    click.echo(table(("rate", "", "reference", "model", "noise", "even"), rows))


def share_at_partials(
    model: str, chords: Sequence[Sequence[float]], rate: int, folder: Path
) -> tuple[float, float, float, float]:
    """Of reference, model, noise, and of what is spread evenly; chords follow each other."""
    reference = np.concatenate([sawtooth(chord, SECONDS / len(chords)) for chord in chords])
    made, noise = upsampled(reference, model, rate, folder)
    hertz = np.fft.rfftfreq(N_FFT, 1 / RATE)
    above = hertz > rate / 2
    powers = np.zeros((4, 2))  # near partials, and in all
    for number, chord in enumerate(chords):
        partials = np.concatenate([f0 * np.arange(1, int(RATE / 2 / f0) + 1) for f0 in chord])
        near = above & (np.abs(hertz[:, None] - partials).min(1) <= NEAR_HZ)
        first, last = (round(RATE * SECONDS * n / len(chords)) for n in (number, number + 1))
        for place, wave in enumerate((reference, made, noise)):
            power = spectrum(wave[first:last])
            powers[place] += power[near].sum(), power[above].sum()
        powers[3] += near.sum(), above.sum()
    shares = powers[:, 0] / powers[:, 1]
    return tuple(map(float, shares))  # type: ignore[return-value]


def spectrum(wave: Signal) -> NDArray[np.float64]:
    """Power of the frames that lie inside, summed."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, N_FFT)[:: N_FFT // 4]
    power: NDArray[np.float64] = np.square(np.abs(np.fft.rfft(frames * np.blackman(N_FFT)))).sum(0)
    return power


def before_clicks(model: str, rate: int, folder: Path) -> tuple[float, float, float]:
    """Of reference, model and noise, in dB against what follows."""
    places = np.arange(RATE // 2, int(RATE * SECONDS) - RATE // 2, RATE // 3)
    reference = clicks(places)
    made, noise = upsampled(reference, model, rate, folder)

    def echo(wave: Signal) -> float:
        spectrum = np.fft.rfft(wave)
        spectrum[np.fft.rfftfreq(len(wave), 1 / RATE) <= rate / 2] = 0
        high = np.square(np.fft.irfft(spectrum, len(wave)))
        early, late, gap = round(0.020 * RATE), round(0.020 * RATE), round(0.003 * RATE)
        before = sum(high[p - early : p - gap].mean() for p in places)
        after = sum(high[p : p + late].mean() for p in places)
        return float(10 * np.log10(before / after + 1e-12))

    return echo(reference), echo(made), echo(noise)


def sawtooth(chord: Sequence[float], seconds: float) -> Signal:
    """Partials of amplitude 1/n up to the Nyquist frequency, phases of their own."""
    time = np.arange(int(RATE * seconds)) / RATE
    rng, wave = np.random.default_rng(0), np.zeros(len(time))
    for f0 in chord:
        for n in range(1, int(RATE / 2 / f0) + 1):
            wave += np.sin(2 * np.pi * (n * f0 * time + rng.random())) / n
    return (0.25 * wave / np.abs(wave).max()).astype(np.float32)


def clicks(places: NDArray[np.int64]) -> Signal:
    """Bursts of noise that decay within 5 ms, and very little between them."""
    rng = np.random.default_rng(0)
    wave = 1e-5 * rng.standard_normal(int(RATE * SECONDS))
    decay = np.exp(-np.arange(round(0.03 * RATE)) / (0.005 * RATE))
    for place in places:
        wave[place : place + len(decay)] += 0.2 * decay * rng.standard_normal(len(decay))
    return wave.astype(np.float32)


def upsampled(reference: Signal, model: str, rate: int, folder: Path) -> tuple[Signal, Signal]:
    """What a model makes of the low-res version, and the true envelope filled with noise."""
    low = soxr.resample(reference, RATE, rate, quality="VHQ")
    soundfile.write(folder / "low.wav", low, rate, subtype="FLOAT")
    subprocess.run(
        [sys.executable, "-m", "cli", "upsample", folder / "low.wav", folder / "made.wav",
         "--model", model, "--bits", "float", "--overwrite", "--json"],
        check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    made, _ = soundfile.read(folder / "made.wav", dtype="float32")
    back = soxr.resample(low, rate, RATE, quality="VHQ")
    length = min(len(reference), len(made), len(back))
    truth = torch.from_numpy(reference[:length])
    noise = filled_with_noise(torch.from_numpy(back[:length]), truth, rate / RATE)
    return made[:length], noise.numpy()


if __name__ == "__main__":
    main()
