"""``jatsr inspect``: what a sound file holds, and up to which frequency."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shards.errors import EnvironmentFailure, TrackError

if TYPE_CHECKING:
    from jatsr_model.upsampling.inspection import Inspection

_PICTURE_SECONDS = 300.0


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...",
                type=click.Path(path_type=Path))  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write spectrograms there, with the bandwidth drawn in.")  # fmt: skip
def inspect(files: tuple[Path, ...], as_json: bool, pictures: Path | None) -> None:
    """Say what is in sound files: bandwidth, roll-off, rate, channels, length, loudness, silence.

    The bandwidth is where the spectrum ends as if cut off: by a low-pass filter, a lower sample
    rate or a lossy codec. A spectrum that falls smoothly into noise is full, however dull it
    sounds. The roll-off, below which 98.5 % of the spectrum lies, says how bright it is. Files that
    cannot be read are listed with the reason, and the exit code is 1.
    """
    rows = []
    for number, file in enumerate(files):
        rows.append(_row(number, file, pictures))
        if not as_json and "error" in rows[-1]:
            click.echo(f"{file}: {rows[-1]['error']}", err=True)
    good = [row for row in rows if "error" not in row]
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    elif good:
        click.echo("\n".join(_table(good)))
        if pictures is not None:
            click.echo(f"{len(good)} pictures in {pictures}")
    if len(good) < len(rows):
        raise click.exceptions.Exit(1)


def describe(found: Inspection) -> dict[str, Any]:
    """All facts of a file, JSON-ready; levels that are minus infinity are None."""
    facts, rate = found.facts, found.format.rate
    edge, loudness, silence = facts.bandwidth, facts.loudness, facts.silence
    return {
        "rate": rate,
        "channels": found.format.channels,
        "samples": facts.samples,
        "seconds": facts.samples / rate,
        "container": found.format.container,
        "coding": found.format.subtype,
        "decoder": found.format.decoder,
        "bandwidth": edge.verdict,
        "bandwidth_hz": edge.hertz,
        "solid_hz": edge.solid_hertz,
        "drop_db": edge.drop_db,
        "rolloff_hz": edge.rolloff_hertz,
        "loudness_lufs": _finite(loudness.lufs),
        "rms_dbfs": _finite(loudness.rms_dbfs),
        "peak_dbfs": _finite(20 * math.log10(loudness.peak)) if loudness.peak else None,
        "silent_seconds": silence.seconds,
        "leading_silence_seconds": silence.leading_seconds,
        "trailing_silence_seconds": silence.trailing_seconds,
    }


def _row(number: int, file: Path, pictures: Path | None) -> dict[str, Any]:
    from jatsr_model.upsampling.inspection import inspect_file

    try:
        found = inspect_file(file, _PICTURE_SECONDS if pictures else 0.0)
    except TrackError as error:
        return {"file": str(file), "error": error.message, "hint": error.hint}
    row = {"file": str(file)} | describe(found)
    if pictures is not None:
        row["picture"] = _draw(found, file, pictures / f"{number:02d}_{file.stem}.png")
    return row


def _draw(found: Inspection, file: Path, path: Path) -> str:
    from jatsr_model.spectrogram import Panel, picture

    edge, seconds = found.facts.bandwidth, found.facts.samples / found.format.rate
    marks = {}
    if edge.drop_db:
        marks[f"{edge.verdict}: {edge.hertz / 1000:.2f} kHz"] = edge.hertz
    part = ", first 5 minutes" if seconds > _PICTURE_SECONDS else ""
    panel = Panel(found.start, f"{file.name}{part}", marks)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture([panel], found.format.rate).save(path)
    except OSError as error:
        raise EnvironmentFailure(
            f"--pictures {path.parent}: cannot be written to: {error}",
            hint="name a folder that you may write to, on a disk with room",
        ) from error
    return str(path)


def _finite(level: float) -> float | None:
    return level if math.isfinite(level) else None


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    header = ["file", "length", "rate", "ch", "coding", "bandwidth", "", "roll-off", "loudness",
              "peak", "silence"]  # fmt: skip
    cells = [header, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        pairs = zip(line, widths, strict=True)
        first, *rest = (
            text.ljust(width) if place in (0, 4, 6) else text.rjust(width)
            for place, (text, width) in enumerate(pairs)
        )
        yield "  ".join([first, *rest]).rstrip()


def _cells(row: Mapping[str, Any]) -> list[str]:
    minutes, seconds = divmod(row["seconds"], 60)
    return [
        row["file"],
        f"{minutes:.0f}:{seconds:05.2f}",
        f"{row['rate']} Hz",
        str(row["channels"]),
        f"{row['container']} {row['coding']}",
        _frequency(row, "bandwidth_hz"),
        row["bandwidth"],
        _frequency(row, "rolloff_hz"),
        _level(row["loudness_lufs"], "LUFS"),
        _level(row["peak_dbfs"], "dBFS"),
        f"{row['silent_seconds']:.2f} s",
    ]


def _frequency(row: Mapping[str, Any], name: str) -> str:
    return "" if row["bandwidth"] == "silent" else f"{row[name] / 1000:.2f} kHz"


def _level(level: float | None, unit: str) -> str:
    return f"-inf {unit}" if level is None else f"{level:.1f} {unit}"
