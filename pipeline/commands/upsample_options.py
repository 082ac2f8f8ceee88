"""Options of ``jatsr upsample``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.upsample.formats import FORMATS

Command = Callable[..., Any]
_PATH = click.Path(path_type=Path)
_WHOLE = click.IntRange(min=1)

OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--model", {"required": True, "metavar": "PATH|NAME|identity",
                 "help": "Checkpoint of jatsr train, or the name of a training in runs; identity "
                 "only resamples."}),
    ("--format", {"type": click.Choice(list(FORMATS)),
                  "help": "Of the outputs.  [that of OUT if it is a file, else flac]"}),
    ("--bits", {"type": click.Choice(["16", "24", "float"]),
                "help": "Of WAV and FLAC; integers are dithered.  [24]"}),
    ("--rate", {"type": click.IntRange(1000, 768_000),
                "help": "Hz.  [44100, that of the model; of files with more, their own]"}),
    ("--target-rolloff", {"type": float, "metavar": "HZ",
                          "help": "Brightness: below it lies 98.5 % of the spectrum.  [15000]"}),
    ("--prompt", {"default": "", "help": "What it sounds like, for models that take text."}),
    ("--seed", {"type": click.IntRange(min=0), "default": 0, "show_default": True,
                "help": "Of what is generated."}),
    ("--steps", {"type": _WHOLE, "default": 16, "show_default": True, "help": "Of the solver."}),
    ("--solver", {"type": click.Choice(["euler", "midpoint", "heun"]), "default": "euler",
                  "show_default": True, "help": "The last two compute twice per step."}),
    ("--grid", {"type": click.Choice(["uniform", "linear-quadratic"]), "default": "uniform",
                "show_default": True, "help": "Times of the steps."}),
    ("--cfg", {"type": float, "default": 1.0, "show_default": True,
                    "help": "How much the input counts; 1 is no guidance."}),
    ("--cfg-text", {"type": float, "help": "How much the prompt counts.  [no guidance]"}),
    ("--device", {"default": "", "help": "cpu, cuda, cuda:1.  [the best there is]"}),
    ("--precision", {"type": click.Choice(["fp32", "bf16"]),
                     "help": "Of the network.  [bf16 on GPUs, else fp32]"}),
    ("--batch-size", {"type": _WHOLE, "help": "Windows at once, of several files.  [16 on GPUs, "
                      "1 on CPUs]"}),
    ("--window-frames", {"type": _WHOLE, "help": "Length of a window in latent frames.  [that of "
                         "the crops that the model learned from]"}),
    ("--codec-weights", {"type": _PATH, "help": "Weights of the codec that the model was trained "
                         "with.  [the usual places]"}),
    ("--text-encoder", {"help": "Folder or name of the T5 encoder for --prompt.  [t5-base]"}),
    ("--engine", {"type": click.Choice(["inline", "local", "ray"]),
                  "help": "This process, processes on this machine, or a Ray cluster.  [local for "
                  "several files on a CPU or on several GPUs, else inline]"}),
    ("--workers", {"type": click.IntRange(min=0),
                   "help": "Processes, or actors on Ray; 0: none but this one.  [one per core or "
                   "GPU; on Ray as many as the cluster holds]"}),
    ("--ray-address", {"metavar": "auto|HOST:PORT", "help": "The cluster.  [RAY_ADDRESS, else a "
                       "private Ray on this machine]"}),
    ("--gpus-per-actor", {"type": click.FloatRange(min=0), "help": "GPUs, or the share of one, of "
                          "each actor on Ray.  [1 where there are GPUs]"}),
    ("--max-failed", {"type": click.FloatRange(0, 1), "default": 0.0, "show_default": True,
                      "help": "Share of files that may fail without an error; with less than 1, 20 "
                      "failures in a row end the run."}),
    ("--overwrite", {"is_flag": True, "help": "Do everything again, over what is there."}),
    ("--dry-run", {"is_flag": True, "help": "Say what would be done, and write nothing."}),
    ("--json", {"is_flag": True, "help": "Print the result as JSON."}),
)  # fmt: skip

_NAMES = {
    "--cfg": "guidance",
    "--cfg-text": "text_guidance",
    "--json": "as_json",
    "--format": "container",
}


def upsample_options(command: Command) -> Command:
    """Add them to a command."""
    for flag, how in reversed(OPTIONS):
        names = (flag, _NAMES[flag]) if flag in _NAMES else (flag,)
        command = click.option(*names, **how)(command)
    return command
