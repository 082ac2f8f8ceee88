"""Speed and memory of ``jatsr upsample``, with a network as it is at the start of its training.

    python benchmarks/upsampling.py length [--seconds 10 --seconds 600 --seconds 36000] [--steps 16]
    python benchmarks/upsampling.py batch [--files 100]
    python benchmarks/upsampling.py shares

The work of a network does not depend on its weights. ``--model`` takes another one. Inputs are
noise at 16 kHz, of one channel.
"""

from __future__ import annotations

import cProfile
import pstats
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import soundfile
from common import Measured, jatsr, machine, table

RATE = 16_000
_PIECE = 60  # seconds
_MUSIC = Path(__file__).parents[1] / "examples" / "make_music.py"

_steps = click.option("--steps", multiple=True, type=int, default=(1, 4, 16), show_default=True)
_model = click.option("--model", help="A checkpoint.  [an untrained mdct-xs]")


@click.group()
def main() -> None:
    """Measure."""


@main.command()
@click.option("--seconds", multiple=True, type=float, default=(10.0, 600.0), show_default=True)
@_steps
@_model
def length(seconds: tuple[float, ...], steps: tuple[int, ...], model: str | None) -> None:
    """Realtime factor and peak memory by the length of a file."""
    rows: list[tuple[object, ...]] = []
    with _workshop(model) as (folder, network):
        for duration in seconds:
            source = _noise(folder / f"{duration:g}.wav", duration)
            for count in steps:
                done = _upsample(source, folder / "out.flac", network, count)
                (row,) = done.output["rows"]
                rows.append(
                    (
                        f"{duration:g} s",
                        count,
                        f"{duration / row['took_seconds']:.1f}x",
                        f"{duration / done.seconds:.1f}x",
                        f"{done.peak_self / 1e6:.0f} MB",
                    )
                )
            source.unlink()
    click.echo(machine())
    click.echo(table(("length", "steps", "realtime", "with start-up", "peak memory"), rows))


@main.command()
@click.option("--files", default=100, show_default=True)
@click.option("--seconds", default=6.0, show_default=True, help="Of each file.")
@click.option("--steps", default=4, show_default=True)
@_model
def batch(files: int, seconds: float, steps: int, model: str | None) -> None:
    """Many short files against the same audio in one file."""
    with _workshop(model) as (folder, network):
        whole = _noise(folder / "whole.wav", files * seconds)
        signal, _ = soundfile.read(whole, dtype="int16")
        many = folder / "many"
        many.mkdir()
        for number, part in enumerate(np.split(signal, files)):
            soundfile.write(many / f"{number:04d}.wav", part, RATE)
        rows: list[tuple[object, ...]] = []
        one = _upsample(whole, folder / "out.flac", network, steps).seconds
        rows.append(("one file", f"{one:.1f} s", "1"))
        took = _upsample(many, folder / "out", network, steps).seconds
        rows.append((f"{files} files", f"{took:.1f} s", f"{took / one:.2f}"))
    click.echo(f"{machine()}; {files * seconds:g} s of audio, {steps} steps")
    click.echo(table(("input", "time", "ratio"), rows))


@main.command()
@click.option("--seconds", default=120.0, show_default=True)
@_steps
@_model
def shares(seconds: float, steps: tuple[int, ...], model: str | None) -> None:
    """Where the time goes, by a profile."""
    from jatsr_model.upsampling.model import load_model
    from jatsr_model.upsampling.output_format import output_format
    from jatsr_model.upsampling.render import Renderer
    from jatsr_model.upsampling.rendering import Job
    from jatsr_model.upsampling.settings import Settings

    rows: list[tuple[object, ...]] = []
    with _workshop(model) as (folder, network):
        source = _noise(folder / "a.wav", seconds)
        loaded, form = load_model(Path(network)), output_format(Path("a.flac"))
        for count in (1, *steps):  # the first to warm up
            job = Job(source=source, target=folder / "a.flac", digest="0" * 64)
            profile = cProfile.Profile()
            profile.enable()
            list(Renderer(loaded, Settings(steps=count), form).run([job]))
            profile.disable()
            rows.append((count, *_shares(profile)))
    click.echo(machine())
    click.echo(table(("steps", *_PARTS, "rest"), rows[1:]))


# What counts for what: functions by file and name; none of them calls another.
_PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "network": (("pool.py", "_take"),),
    "codec": (("mdct.py", "encode_windows"), ("dac.py", "encode_windows"), ("model.py", "low"),
              ("model.py", "decode")),
    "measuring": (("inspection.py", "push"), ("inspection.py", "result")),
    "joining": (("joints.py", "take"), ("splice.py", "push"), ("splice.py", "flush")),
    "resampling": (("resample.py", "push"), ("resample.py", "flush")),
    "reading": (("decode_soundfile.py", "blocks"),),
    "writing": (("audio_out.py", "write"), ("audio_out.py", "_finish")),
}  # fmt: skip


def _shares(profile: cProfile.Profile) -> Iterator[str]:
    stats = pstats.Stats(profile)
    total = stats.total_tt  # type: ignore[attr-defined]
    left = total
    for functions in _PARTS.values():
        spent = sum(
            times[3]
            for (file, _, name), times in stats.stats.items()  # type: ignore[attr-defined]
            if (Path(file).name, name) in functions
        )
        left -= spent
        yield f"{100 * spent / total:.0f} %"
    yield f"{100 * left / total:.0f} %"


def _upsample(source: Path, out: Path, network: str, steps: int) -> Measured:
    options = ("--model", network, "--steps", steps, "--overwrite")
    return jatsr("upsample", source, out, *options)


@contextmanager
def _workshop(model: str | None) -> Iterator[tuple[Path, str]]:
    """A folder that goes away, and a checkpoint."""
    with tempfile.TemporaryDirectory(prefix="jatsr-benchmark-") as name:
        folder = Path(name)
        yield folder, model or str(_untrained(folder))


def _untrained(folder: Path) -> Path:
    subprocess.run([sys.executable, str(_MUSIC), str(folder / "music")], check=True)
    jatsr("build", folder / "music", folder / "dataset", "--val-fraction", "0.3")
    runs = ("--output", folder / "runs", "--name", "x")
    short = ("--steps", 1, "--batch-size", 1)
    jatsr("train", folder / "dataset", "--model", "mdct-xs", *runs, *short)
    return folder / "runs" / "x" / "checkpoints" / "last"


def _noise(path: Path, seconds: float) -> Path:
    random = np.random.default_rng(0)
    left = round(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        while left:
            count = min(left, _PIECE * RATE)
            file.write((random.standard_normal(count) * 3000).astype(np.int16))
            left -= count
    return path


if __name__ == "__main__":
    main()
