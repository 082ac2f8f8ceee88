"""``jatsr export``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--half/--full", default=True, show_default=True, help="Weights in float16, half as large."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(model: str, folder: Path, *, half: bool, as_json: bool) -> None:
    """Write the network of a training into FOLDER, to be given away.

    MODEL is a checkpoint, a training, or the name of one in runs. FOLDER gets model.safetensors and
    model.json, which is all that jatsr upsample --model FOLDER needs.
    """
    from jatsr_model.exports import export_network
    from jatsr_model.model_folder import find_model

    exported = export_network(find_model(model), folder, half=half)
    if as_json:
        click.echo(json.dumps({**asdict(exported), "folder": str(exported.folder)}))
    else:
        click.echo(
            f"{exported.folder}: {exported.parameters:,} parameters, {exported.size / 1e6:.1f} MB, "
            f"sha256 {exported.sha256}"
        )
