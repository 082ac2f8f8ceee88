"""``jatsr build``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pipeline.commands.interrupt import interruptible
from pipeline.commands.progress import make_ui
from pipeline.commands.report import outcome_json, outcome_text, plan_json, plan_text


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(), metavar="SOURCE...")
@click.argument("dest", type=click.Path())
@click.option(
    "--codec",
    type=click.Choice(["mdct", "dac-44khz", "dac-44khz-untrained"]),
    help="Latent space. [default: mdct, which needs no weights]",
)
@click.option(
    "--codec-weights",
    type=click.Path(path_type=Path),
    help="Weights of dac-44khz: a Hugging Face folder, .safetensors or descript .pth.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Where the codec runs. [default: auto]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="Arithmetic of the codec's network. [default: fp32]",
)
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Compile the codec's network once. [default: compile where possible]",
)
@click.option("--channels", type=click.Choice(["mono", "stereo"]), help="[default: mono]")
@click.option(
    "--lr",
    multiple=True,
    metavar="SPEC",
    help="Low-res variant, repeatable: sinc:RATE, filters:LOW-HIGH (Hz of cutoff), mp3:KBPS, "
    "opus:KBPS, vorbis:KBPS; or, drawn for every track, sinc:LOW-HIGH, lossy:LOW-HIGH (kbit/s). "
    "[default: sinc:16000 and filters:2000-16000]",
)
@click.option("--lr-variants", type=int, help="Draws from every random --lr. [default: 1]")
@click.option(
    "--loudness", metavar="LUFS|off", help="Target loudness of every track. [default: -16]"
)
@click.option("--val-fraction", type=float, help="Share of the validation split. [default: 0.1]")
@click.option(
    "--split-by",
    type=click.Choice(["track", "folder", "artist"]),
    help="What is never torn between the splits. [default: track]",
)
@click.option("--excerpt-seconds", type=float, help="Length of a sample. [default: 60]")
@click.option("--shard-hours", type=float, help="Audio per shard. [default: what makes 256 MB]")
@click.option(
    "--captions",
    metavar="CHAIN",
    help="Caption sources in order of preference, or none. [default: sidecar,tags,measured]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    help="Processes on this machine, or a Ray cluster. [default: local]",
)
@click.option(
    "--workers", type=int, help="Processes; 0: none but this one. [default: one per core]"
)
@click.option(
    "--ray-address",
    metavar="auto|HOST:PORT",
    help="The cluster. [default: RAY_ADDRESS, else a private Ray on this machine]",
)
@click.option(
    "--encode-actors", type=int, help="Ray actors. [default: as many as the cluster holds]"
)
@click.option(
    "--gpus-per-actor",
    type=float,
    help="GPUs, or the share of one, of each actor. [default: 0.25 where there are GPUs]",
)
@click.option("--cpu-per-task", type=float, help="CPUs that each actor reserves. [default: 1]")
@click.option(
    "--in-flight", type=int, help="Tracks dealt to each actor ahead of time. [default: 4]"
)
@click.option(
    "--max-failed", type=float, help="Largest tolerated share of failed tracks. [default: 0.1]"
)
@click.option("--strict", is_flag=True, default=None, help="Tolerate no failed track.")
@click.option(
    "--retry-failed",
    is_flag=True,
    default=None,
    help="Try tracks again that failed in an earlier build.",
)
@click.option("--limit", type=int, help="Build only the first N tracks.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file with any of these options; flags win.",
)
@click.option("--rebuild", is_flag=True, help="Replace what is in DEST, whatever its options were.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--json-logs", is_flag=True, help="Progress as JSON lines on standard error.")
def build(
    sources: tuple[str, ...],
    dest: str,
    config: Path | None,
    rebuild: bool,
    dry_run: bool,
    as_json: bool,
    json_logs: bool,
    **flags: Any,
) -> None:  # fmt: skip
    """Turn music into a latent dataset.

    SOURCE are folders and files; DEST is the folder of the dataset. Both may be URLs: s3:// and
    gs://, for SOURCE also https://. Run the same command again to continue an interrupted build,
    or to add new files to a finished one.
    """
    from pipeline.build import Build
    from pipeline.engine_of import open_engines
    from pipeline.estimate import estimate
    from pipeline.options import load_yaml, make_config

    options = load_yaml(config) if config else {}
    options |= {name: value for name, value in flags.items() if value not in (None, ())}
    asked = make_config(options)
    ui = make_ui(json_logs)
    with interruptible(ui, "finished tracks are kept"), open_engines(asked) as engines:
        if engines.where:
            ui.note(engines.where)
        run = Build(sources, dest, asked, engines, ui, rebuild=rebuild)
        if dry_run:
            plan = run.plan()
            ui.close()
            numbers = estimate(plan, asked, engines.codec, engines.workers)
            text = json.dumps(plan_json(plan, numbers)) if as_json else plan_text(plan, numbers)
        else:
            outcome = run.run()
            ui.close()
            text = (
                json.dumps(outcome_json(outcome, dest)) if as_json else outcome_text(outcome, dest)
            )
    click.echo(text)
