"""What it is worth to know how bright music is: LSD with and without ``--target-rolloff``.

    python benchmarks/brightness.py FOLDER [--of piece] [--factor 1.5] [--metric crest_distance_db]

6 s from the middle of every file, mono, as ``jatsr evaluate`` takes them; then once more, told the
roll-off of the clip, or of the whole piece, to the nearest 500 Hz: as somebody might who knows the
music. With a factor, somebody who is wrong by so much; but below the roll-off of the input nobody
can ask for anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from common import table
from tqdm import tqdm

from jatsr_model.metrics.clips import read_clip
from jatsr_model.metrics.measure import Extras, Row
from jatsr_model.metrics.music import Music, find_music
from jatsr_model.metrics.names import METRICS
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.subjects import FLOAT_WAV
from jatsr_model.metrics.trials import Trials
from jatsr_model.model_folder import find_model
from jatsr_model.upsampling import settings as upsampling
from jatsr_model.upsampling.inspection import inspect_file
from jatsr_model.upsampling.model import Model, load_model
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.requests import window_rolloff

MEASURED = Settings(rate=44_100, clip_seconds=6.0, seed=0)
NONE = Extras("not asked for", "not asked for")
STEP_HZ = 500


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "name", default="music", show_default=True)
@click.option("--rates", default="4000,8000,16000,24000,32000", show_default=True)
@click.option("--of", "whole", type=click.Choice(["clip", "piece"]), default="clip")
@click.option("--factor", default=1.0, show_default=True)
@click.option(
    "--metric", type=click.Choice([m.key for m in METRICS]), default="lsd", show_default=True
)
def main(folder: Path, name: str, rates: str, whole: str, factor: float, metric: str) -> None:
    """Measure."""
    torch.set_num_threads(1)
    model = load_model(find_model(name), "cpu")
    wanted = [int(rate) for rate in rates.split(",")]
    rows: list[tuple[object, ...]] = []
    for music in tqdm(find_music(folder), disable=None, leave=False):
        target = rounded(factor * (of_piece if whole == "piece" else of_clip)(music))
        alone, told = (
            [row.values.get("model", {}).get(metric) for row in tried(model, music, hertz, wanted)]
            for hertz in (None, target)
        )
        rows.append((music.name, target, *pairs(alone, told)))
    means = [np.nanmean([row[k] for row in rows]) for k in range(2, len(rows[0]))]
    shown = [(*row[:2], *(f"{x:.2f}" for x in row[2:])) for row in (*rows, ("mean", "", *means))]
    header = [f"{rate} {kind}" for rate in wanted for kind in ("alone", "told")]
    click.echo(table(("file", "roll-off Hz", *header), shown))


def of_clip(music: Music) -> float:
    """Its roll-off in Hz."""
    clip = read_clip(music.path, MEASURED.clip_seconds, MEASURED.rate).wave
    return window_rolloff(clip) * MEASURED.rate / 2


def of_piece(music: Music) -> float:
    """As ``jatsr inspect`` says it."""
    return inspect_file(music.path).facts.bandwidth.rolloff_hertz


def rounded(hertz: float) -> int:
    """To whole steps, at least one."""
    return max(round(hertz / STEP_HZ), 1) * STEP_HZ


def tried(model: Model, music: Music, target_hz: float | None, rates: Sequence[int]) -> list[Row]:
    """What was measured at every rate."""
    asked = upsampling.Settings(rate=MEASURED.rate, target_hz=target_hz)
    trials = Trials(Renderer(model, asked, FLOAT_WAV), model, MEASURED, rates, NONE)
    with TemporaryDirectory() as scratch:
        trials.run([music], Path(scratch))
    return [report.rows[0] for report in trials.reports().values()]


def pairs(alone: Sequence[float | None], told: Sequence[float | None]) -> list[float]:
    """One after the other, rate by rate; not a number where there is nothing to measure."""
    both = zip(alone, told, strict=True)
    return [math.nan if value is None else value for pair in both for value in pair]


if __name__ == "__main__":
    main()
