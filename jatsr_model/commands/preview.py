"""``jatsr preview``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from jatsr_data import Batch, LatentDataset

_CAPTION = 60  # characters of it in the table


@click.command()
@click.argument("dataset")
@click.option("-n", "count", type=click.IntRange(min=1), default=4, show_default=True,
              help="How many crops.")  # fmt: skip
@click.option("--save", "folder", type=click.Path(file_okay=False, path_type=Path),
              help="Write each crop there: two WAV files and a picture of them.")  # fmt: skip
@click.option("--split", default="train", show_default=True, help="train or val.")
@click.option("--crop-frames", type=click.IntRange(min=1), default=512, show_default=True,
              help="Length of a crop in latent frames.")  # fmt: skip
@click.option("--lr-variants", default="random", show_default=True,
              help="random, all, or the number of one low-res variant.")  # fmt: skip
@click.option("--epoch", type=click.IntRange(min=0), default=0, show_default=True,
              help="Which epoch's order.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of the order.")
@click.option("--codec-weights", type=click.Path(path_type=Path),
              help="With --save: weights that the dataset was made with.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def preview(
    dataset: str,
    count: int,
    folder: Path | None,
    epoch: int,
    codec_weights: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Show what a trainer will see: the first crops of an epoch, in its order.

    With --save also what they sound and look like: decoded from the stored frames, at the level
    that the dataset has.
    """
    if codec_weights is not None and folder is None:
        raise click.UsageError("--codec-weights: only --save decodes, so give --save as well")
    from jatsr_data import LatentDataset, LatentLoader
    from jatsr_model.commands.preview_files import open_saver

    data = LatentDataset(dataset, **reading)
    saver = None if folder is None else open_saver(data, folder, codec_weights)
    loader = LatentLoader(data, 1)
    loader.set_epoch(epoch)
    rows = []
    for number, batch in enumerate(islice(loader, count)):
        row = describe(data, batch)
        if saver is not None:
            row["files"] = saver.save(number, batch, row)
        rows.append(row)
    facts = {
        "dataset": data.store.url,
        "split": data.split,
        "epoch": epoch,
        "crops": len(data.epoch(epoch)),
        "crop_frames": data.crop_frames,
        "crop_seconds": data.crop_frames * data.manifest.seconds_per_frame,
        "excerpts": len(data.index),
        "first": rows,
    }
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else _text(facts))
    if folder is not None and not as_json:
        click.echo(f"{3 * len(rows)} files in {folder}")
    if folder is not None and data.manifest.codec.get("untrained"):
        click.echo("the codec has UNTRAINED random weights: it decodes to noise", err=True)


def describe(dataset: LatentDataset, batch: Batch) -> dict[str, Any]:
    """One crop, JSON-ready."""
    manifest = dataset.manifest
    second, nyquist = manifest.seconds_per_frame, manifest.codec["sample_rate"] / 2
    variant, frames = int(batch.variant[0]), int(batch.frames[0])
    return {
        "key": batch.key[0],
        "start_seconds": int(batch.start[0]) * second,
        "seconds": frames * second,
        "frames": frames,
        "rolloff_hr_hz": float(batch.rolloff_hr[0]) * nyquist,
        "rolloff_lr_hz": float(batch.rolloff_lr[0]) * nyquist,
        "variant": variant,
        "low_res": manifest.config["degrade"]["lr"][variant],
        "caption": batch.caption[0],
    }


def _text(facts: Mapping[str, Any]) -> str:
    """The facts for people."""
    header = ["", "key", "start s", "length s", "frames", "hr roll-off", "lr roll-off", "low-res",
              "caption"]  # fmt: skip
    rows = [
        [
            f"{number:02d}",
            row["key"],
            f"{row['start_seconds']:.2f}",
            f"{row['seconds']:.2f}",
            f"{row['frames']}",
            f"{row['rolloff_hr_hz'] / 1000:.2f} kHz",
            f"{row['rolloff_lr_hz'] / 1000:.2f} kHz",
            f"lr{row['variant']} {row['low_res']}",
            shorten(row["caption"], _CAPTION, placeholder=" ..."),
        ]
        for number, row in enumerate(facts["first"])
    ]
    return "\n".join([
        *_aligned([header, *rows], right=range(2, 7)),
        f"{facts['dataset']}: epoch {facts['epoch']} of {facts['split']!r} has {facts['crops']} "
        f"crops of {facts['crop_seconds']:.2f} s ({facts['crop_frames']} frames) from "
        f"{facts['excerpts']} excerpts",
    ])  # fmt: skip


def _aligned(rows: Sequence[Sequence[str]], right: range) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if place in right else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
