"""Write a few short synthetic pieces in mixed formats, to have something to build a dataset from.

python examples/make_music.py FOLDER
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import click
import numpy as np
import soundfile
from numpy.typing import NDArray

PIECES = (  # name, sample rate, channels, beats per minute, root note (MIDI), seconds
    ("dawn/01 slow waltz.flac", 44100, 2, 72, 57, 40),
    ("dawn/02 marching.ogg", 44100, 2, 112, 52, 35),
    ("dawn/03 little song.mp3", 44100, 2, 96, 60, 30),
    ("dusk/lantern.wav", 48000, 2, 84, 50, 45),
    ("dusk/river (take 2.1).flac", 96000, 1, 104, 55, 25),
    ("dusk/old radio.ogg", 22050, 1, 120, 58, 30),
    ("dusk/late train.opus", 48000, 2, 132, 53, 30),
    ("sketches/blue.aiff", 44100, 1, 66, 49, 30),
    ("sketches/red.wav", 32000, 2, 140, 62, 25),
    ("sketches/green.flac", 44100, 2, 90, 59, 50),
    ("sketches/white.flac", 44100, 1, 78, 56, 30),
    ("sketches/black.mp3", 48000, 2, 126, 51, 35),
)
PROGRESSION = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))


@cache
def note(midi: float, seconds: float, rate: int) -> NDArray[np.float64]:
    """A plucked tone: decaying harmonics below Nyquist."""
    time = np.arange(int(seconds * rate)) / rate
    pitch = 440.0 * 2 ** ((midi - 69) / 12)
    partials = range(1, max(2, min(24, int(rate / 2 / pitch))))
    tone = sum(
        np.sin(2 * np.pi * pitch * k * time) / k**1.3 * np.exp(-time * (1.5 + 0.4 * k))
        for k in partials
    )
    return np.asarray(tone)


def piece(
    seed: int, rate: int, channels: int, tempo: int, root: int, seconds: int
) -> NDArray[np.float64]:
    """Chords, a melody and a noise drum over a four-chord progression."""
    random = np.random.default_rng(seed)
    beat = 60 / tempo
    length = int(seconds * rate)
    mix = np.zeros((length + 4 * rate, channels))

    def add(sound: NDArray[np.float64], at: float, level: float, pan: float) -> None:
        start = int(at * rate)
        sides = np.array([1.0] if channels == 1 else [np.sqrt(1 - pan), np.sqrt(pan)])
        part = sound[: max(0, len(mix) - start), None] * sides * level
        mix[start : start + len(part)] += part

    for step in range(int(seconds / beat)):
        chord = PROGRESSION[step // 4 % len(PROGRESSION)]
        if step % 2 == 0:
            for index, interval in enumerate(chord):
                add(note(root + interval, 2 * beat, rate), step * beat, 0.10, 0.3 + 0.2 * index)
        melody = root + 12 + chord[random.integers(3)] + (0 if random.random() < 0.7 else 2)
        add(note(melody, 1.5 * beat, rate), step * beat, 0.16, 0.6)
        hit = random.standard_normal(int(0.12 * rate))
        hit *= np.exp(-np.arange(len(hit)) / (0.02 * rate))
        add(hit, step * beat, 0.12 if step % 2 else 0.05, 0.5)
    fade = np.minimum(1, np.arange(length)[::-1] / (1.5 * rate))[:, None]
    return np.clip(mix[:length] * fade, -0.99, 0.99)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write the pieces into FOLDER; those that are there already are left alone."""
    written = 0
    for seed, (name, rate, channels, tempo, root, seconds) in enumerate(PIECES):
        path = folder / name
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        audio = piece(seed, rate, channels, tempo, root, seconds)
        temporary = path.with_name(f".writing{path.suffix}")
        options = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
        soundfile.write(temporary, audio, rate, **options)
        temporary.replace(path)
        written += 1
    click.echo(f"{folder}: {len(PIECES)} pieces, {written} of them new")


if __name__ == "__main__":
    main()
