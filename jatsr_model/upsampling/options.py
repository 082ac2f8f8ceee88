"""Options of commands that sample with a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]
Options = tuple[tuple[str, dict[str, Any]], ...]

_WHOLE = click.IntRange(min=1)
_NAMES = {"--cfg": "guidance", "--cfg-text": "text_guidance", "--target-rolloff": "target_hz",
          "--json": "as_json", "--csv": "as_csv", "--format": "container"}  # fmt: skip

DEFAULT = "music"  # the model that is meant where none is named; it comes with the package
MODEL: dict[str, Any] = {
    "metavar": "PATH|NAME|identity",
    "help": "Checkpoint of jatsr train, the name of a training in runs, or music, which comes with "
    "jatsr; identity only resamples.",
}
SAMPLING: Options = (
    ("--target-rolloff", {"type": float, "metavar": "HZ",
                          "help": "Brightness: below it lies 98.5 % of the spectrum.  [what is "
                          "likely; for flows 15000]"}),
    ("--steps", {"type": _WHOLE, "help": "Of the solver.  [1 for envelopes, else 16]"}),
    ("--solver", {"type": click.Choice(["euler", "midpoint", "heun"]), "default": "euler",
                  "show_default": True, "help": "The last two compute twice per step."}),
    ("--grid", {"type": click.Choice(["uniform", "linear-quadratic"]), "default": "uniform",
                "show_default": True, "help": "Times of the steps."}),
    ("--cfg", {"type": float, "default": 1.0, "show_default": True,
               "help": "How much the input counts; 1 is no guidance."}),
    ("--device", {"default": "", "help": "cpu, cuda, cuda:1.  [the best there is]"}),
    ("--precision", {"type": click.Choice(["fp32", "bf16"]),
                     "help": "Of the network.  [bf16 on GPUs, else fp32]"}),
    ("--batch-size", {"type": _WHOLE, "help": "Windows at once, of several files.  [16 on GPUs, "
                      "1 on CPUs]"}),
    ("--window-frames", {"type": _WHOLE, "help": "Length of a window in latent frames.  [that of "
                         "the crops that the model learned from]"}),
    ("--codec-weights", {"type": click.Path(path_type=Path), "help": "Weights of the codec that "
                         "the model was trained with.  [the usual places]"}),
)  # fmt: skip


def name_of(flag: str) -> str:
    """What a command knows the value of a flag by."""
    return _NAMES.get(flag, flag.lstrip("-").replace("-", "_"))


def with_options(command: Command, options: Options) -> Command:
    """A command with these options, listed in this order."""
    for flag, how in reversed(options):
        command = click.option(flag, name_of(flag), **how)(command)
    return command
