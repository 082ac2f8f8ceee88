"""How well the roll-off of a crop is recovered from the envelopes that a dataset stores.

    python benchmarks/crop_rolloff.py FOLDER [--files 40]

For random crops of 512 frames of real music, high-res and low-passed, compares
``shards.crop_rolloff`` with the roll-off of the crop's own transform frames.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import soundfile
import soxr
from common import table

from pipeline.stages.describe import Describer
from pipeline.stages.stft import MagnitudeStft
from shards.crop_rolloff import crop_rolloff
from shards.envelope import rolloff
from shards.errors import TrackError

RATE, HOP, CROP = 44100, 512, 512
STREAMS = ("high-res", "low-passed at 8 kHz")


def load(path: Path, seconds: float) -> np.ndarray | None:
    """Mono audio at 44.1 kHz, or None for what is no audio or too short."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TrackError):
        return None
    mono = soxr.resample(audio[: int(seconds * rate)].mean(axis=1), rate, RATE)
    return mono[: len(mono) // HOP * HOP - 1] if len(mono) > 2 * CROP * HOP else None


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--files", default=40, show_default=True, help="How many pieces to take.")
def main(folder: Path, files: int) -> None:
    """Measure errors, absolute (as a fraction of the Nyquist frequency) and relative."""
    random = np.random.default_rng(0)
    errors: list[list[tuple[float, float]]] = [[], []]
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".ogg", ".mp3", ".flac", ".wav"))
    random.shuffle(paths)  # type: ignore[arg-type]
    taken = 0
    for path in paths:
        mono = load(path, 60.0)
        if taken == files or mono is None or not mono.any():
            continue
        taken += 1
        low = soxr.resample(soxr.resample(mono, RATE, 16000, "VHQ"), 16000, RATE, "VHQ")
        low = np.pad(low, (0, max(0, len(mono) - len(low))))[: len(mono)]
        both = np.stack([mono, low]).astype(np.float32)
        frames = -(-len(mono) // HOP)
        describer = Describer(2, frames)
        (description,) = [*describer.push(both[:, None]), *describer.flush(frames)]
        stft = MagnitudeStft(2)
        magnitudes = np.concatenate([*stft.push(both), *stft.flush()], axis=1)
        for start in random.integers(0, frames - CROP, 20):
            for stream in range(2):
                exact = rolloff(magnitudes[stream, start : start + CROP].sum(axis=0))
                found = crop_rolloff(
                    description.spectrum[stream], description.bands[stream], start, CROP, frames
                )
                if exact > 0:
                    errors[stream].append((abs(found - exact), abs(found - exact) / exact))
    rows = []
    for name, pairs in zip(STREAMS, errors, strict=True):
        absolute, relative = np.array(pairs).T
        rows.append(
            (
                name,
                len(pairs),
                f"{absolute.mean():.4f}",
                f"{np.quantile(absolute, 0.99):.4f}",
                f"{100 * (absolute < 0.01).mean():.1f} %",
                f"{100 * relative.mean():.2f} %",
                f"{100 * (relative < 0.01).mean():.0f} %",
            )
        )
    header = ("stream", "crops", "mean error", "99th percentile", "below 0.01", "mean relative",
              "below 1 % relative")  # fmt: skip
    click.echo(table(header, rows))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
