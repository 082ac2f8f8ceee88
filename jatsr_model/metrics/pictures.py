"""Spectrograms of a reference and what is compared with it."""

from __future__ import annotations

from pathlib import Path

from jatsr_model.metrics.measure import Row
from jatsr_model.metrics.names import BY_KEY
from jatsr_model.metrics.prepare import Prepared
from jatsr_model.metrics.settings import Settings
from jatsr_model.spectrogram import Panel, picture
from shards.errors import EnvironmentFailure
from shards.files import atomic_file


def save_picture(folder: Path, prepared: Prepared, row: Row, settings: Settings) -> Path:
    """Draw a case as it was measured: reference on top, candidates below it.

    Args:
        folder: where to; the picture is named like the case, with the folders of its name.
        prepared: the signals.
        row: what was found.
        settings: as it was measured.

    Raises:
        EnvironmentFailure: the folder cannot be written to.
    """
    marks = {} if row.cutoff is None else {f"cutoff {row.cutoff / 1000:.2f} kHz": row.cutoff}
    pairs = {name: prepared.pair(name, settings) for name in prepared.candidates}
    first = next(iter(pairs.values()))[0]
    panels = [Panel(first.numpy()[None], f"reference  {row.name}", marks)]
    for name, (_, wave) in pairs.items():
        numbers = (f"{BY_KEY[key].title} {value:.3f}" for key in ("lsd", "lsd_hf")
                   if (value := row.values[name][key]) is not None)  # fmt: skip
        panels.append(Panel(wave.numpy()[None], "  ".join([name, *numbers]), marks))
    path = folder / f"{row.name}.png"
    try:
        with atomic_file(path, durable=False) as file:
            picture(panels, settings.rate).save(file, "PNG")
    except OSError as error:
        raise EnvironmentFailure(
            f"--pictures {folder}: cannot be written to: {error.strerror or error}",
            hint="name a folder that you may write to, on a disk with room",
        ) from error
    return path
