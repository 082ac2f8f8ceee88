"""What a model makes of music from lossy files: LSD to the original, before and after.

    python benchmarks/lossy_input.py FOLDER [--model music] [--lr mp3:48 --lr opus:12 ...]

12 s from the middle of every file, mono, through each codec (bit rates of the one channel), then
through ``jatsr upsample``; the middle half is compared.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import soundfile
import torch
from common import table
from numpy.typing import NDArray

from jatsr_model.metrics.clips import read_clip
from jatsr_model.metrics.log_spectral import lsd
from jatsr_model.metrics.music import find_music
from pipeline.stages.degrade import degradation_blocks, draw
from pipeline.stages.variants import parse_lr

RATE, SECONDS = 44_100, 12.0
CODECS = ("mp3:32", "mp3:48", "vorbis:48", "opus:12")
Signal = NDArray[np.float32]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", default="music", show_default=True)
@click.option("--lr", "codecs", multiple=True, default=CODECS, show_default=True)
def main(folder: Path, model: str, codecs: tuple[str, ...]) -> None:
    """Measure."""
    originals = dict(clips(folder))
    rows = []
    for codec in codecs:
        with tempfile.TemporaryDirectory() as name:
            before, after = measured(originals, codec, model, Path(name))
        rows.append((codec, len(originals), f"{before:.2f}", f"{after:.2f}"))
    click.echo(table(("codec", "files", "LSD of the input", "of the output"), rows))


def clips(folder: Path) -> Iterator[tuple[str, Signal]]:
    """Name and mono clip of every file that is long enough."""
    for music in find_music(folder):
        wave = read_clip(music.path, SECONDS, RATE).wave[0]
        if len(wave) >= SECONDS * RATE:
            yield music.name.replace("/", "-"), wave


def measured(
    originals: dict[str, Signal], codec: str, model: str, folder: Path
) -> tuple[float, float]:
    """Mean LSD of what came out of a codec, and of what the model made of it."""
    (folder / "in").mkdir()
    for name, wave in originals.items():
        streams = degradation_blocks(
            lambda wave=wave: iter([wave[None]]), [draw(parse_lr(codec), name, 0)], folder
        )
        heard = np.concatenate([both[1] for both in streams], axis=-1)
        soundfile.write(folder / "in" / f"{name}.wav", heard[0], RATE, subtype="FLOAT")
    subprocess.run(
        [sys.executable, "-m", "cli", "upsample", folder / "in", folder / "out", "--model", model,
         "--format", "wav", "--bits", "float", "--json"],
        check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    distances = [
        [distance(wave, folder / kind / f"{name}.wav") for kind in ("in", "out")]
        for name, wave in originals.items()
    ]
    before, after = np.mean(distances, axis=0)
    return float(before), float(after)


def distance(original: Signal, path: Path) -> float:
    """LSD over the middle half."""
    wave, _ = soundfile.read(path, dtype="float32")
    middle = slice(len(original) // 4, 3 * len(original) // 4)
    return float(lsd(torch.from_numpy(original[middle]), torch.from_numpy(wave[middle])))


if __name__ == "__main__":
    main()
