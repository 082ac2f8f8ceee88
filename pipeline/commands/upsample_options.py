"""Options of ``jatsr upsample``."""

from __future__ import annotations

import click

from jatsr_model.upsampling.options import DEFAULT, MODEL, SAMPLING, Command, Options, with_options
from pipeline.upsample.formats import FORMATS

OPTIONS: Options = (
    ("--model", {"default": DEFAULT, "show_default": True, **MODEL}),
    ("--format", {"type": click.Choice(list(FORMATS)),
                  "help": "Of the outputs.  [that of OUT if it is a file, else flac]"}),
    ("--bits", {"type": click.Choice(["16", "24", "float"]),
                "help": "Of WAV and FLAC; integers are dithered.  [24]"}),
    ("--rate", {"type": click.IntRange(1000, 768_000),
                "help": "Hz.  [44100, that of the model; of files with more, their own]"}),
    *SAMPLING,
    ("--prompt", {"default": "", "help": "What it sounds like, for models that take text."}),
    ("--seed", {"type": click.IntRange(min=0), "default": 0, "show_default": True,
                "help": "Of what is generated."}),
    ("--cfg-text", {"type": float, "help": "How much the prompt counts.  [no guidance]"}),
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


def upsample_options(command: Command) -> Command:
    """Add them to a command."""
    return with_options(command, OPTIONS)
