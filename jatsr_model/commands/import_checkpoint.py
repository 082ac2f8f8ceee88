"""``jatsr import-checkpoint``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("import-checkpoint")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder to write.  [FILE without .pt]"
)
@click.option("--model", default="", help="The network that FILE must be; found out without.")
@click.option("--check", is_flag=True, help="Only say whether it fits; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_checkpoint(
    file: Path, output: Path | None, model: str, check: bool, as_json: bool
) -> None:
    """Take over FILE, a checkpoint of the public JaTSR training scripts.

    Every tensor must find its place. The result computes what the original computes (legacy mode),
    and is written as model.safetensors and model.json.
    """
    from jatsr_model.dit import preset
    from jatsr_model.imports.jatsr import import_checkpoint as load
    from jatsr_model.model_folder import Card, save_network
    from shards.files import sha256_file

    if model:
        preset(model)  # an unknown name is refused before a large file is read
    imported = load(file, model)
    network = imported.network
    facts: dict[str, object] = {
        "models": list(imported.models),
        "parameters": sum(p.numel() for p in network.parameters()),
        "tensors": len(network.state_dict()),
        "missing": 0,
        "unexpected": 0,
        "derived": imported.derived,
        **imported.facts,
    }
    folder = None if check else output or file.with_suffix("")
    if folder is not None:
        name = imported.models[0] if len(imported.models) == 1 else ""  # v3 has four of its shape
        origin = {
            "file": file.name,
            "sha256": sha256_file(file),
            "models": list(imported.models),
            **imported.facts,
        }
        card = Card(model=name, config=network.config, prediction="x", origin=origin)
        save_network(folder, network, card)
        facts["folder"] = str(folder)
    click.echo(json.dumps(facts, indent=1) if as_json else _text(facts))


def _text(facts: dict[str, object]) -> str:
    models = facts["models"]
    names = ", ".join(models) if isinstance(models, list) else ""
    lines = [
        f"network     {names or 'of a shape that no preset has'}, legacy mode",
        f"parameters  {facts['parameters']:,}",
        f"tensors     {facts['tensors']} loaded, {facts['missing']} missing, "
        f"{facts['unexpected']} unexpected, {facts['derived']} derived ones left out",
    ]
    lines += [
        f"{key:11} {facts[key]}"
        for key in ("epoch", "global_step", "best_val_loss", "folder")
        if key in facts
    ]
    return "\n".join(lines)
