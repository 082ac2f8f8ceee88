"""Options of ``jatsr evaluate``, and which of its two forms they make."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import click

from shards.errors import ConfigError

Command = Callable[..., Any]
Form = Literal["pairs", "model"]
Options = tuple[tuple[str, dict[str, Any]], ...]

LOWEST_RATE = 1000  # Hz
CLIP_SECONDS = 6.0  # of every file, where a model is evaluated
RATES = "4000,8000,16000,24000,32000"
_PATH = click.Path(path_type=Path)
_WHOLE = click.IntRange(min=1)

_PAIRS: Options = (
    ("--reference", {"type": _PATH, "help": "The originals: a file or a folder."}),
    ("--estimate", {"type": _PATH, "help": "What to measure, named alike."}),
    ("--low", {"type": _PATH, "help": "The low-res inputs, measured beside the estimates."}),
    ("--cutoff", {"type": float, "help": "Hz, where the inputs end.  [found from --low]"}),
    ("--allow-missing", {"is_flag": True, "help": "Files without a partner are no failure."}),
)
_MODEL: Options = (
    ("--model", {"metavar": "PATH|NAME|identity",
                 "help": "Checkpoint of jatsr train, or the name of a training in runs; identity "
                 "only resamples."}),
    ("--data", {"type": _PATH, "help": "Music with its upper band: a file or a folder."}),
    ("--rates", {"default": RATES, "show_default": True, "metavar": "HZ,HZ,...",
                 "help": "Of the low-res versions."}),
    ("--steps", {"type": _WHOLE, "default": 16, "show_default": True, "help": "Of the solver."}),
    ("--solver", {"type": click.Choice(["euler", "midpoint", "heun"]), "default": "euler",
                  "show_default": True, "help": "The last two compute twice per step."}),
    ("--grid", {"type": click.Choice(["uniform", "linear-quadratic"]), "default": "uniform",
                "show_default": True, "help": "Times of the steps."}),
    ("--cfg", {"type": float, "default": 1.0, "show_default": True,
               "help": "How much the input counts; 1 is no guidance."}),
    ("--target-rolloff", {"type": float, "metavar": "HZ",
                          "help": "Brightness: below it lies 98.5 % of the spectrum.  [15000]"}),
    ("--device", {"default": "", "help": "cpu, cuda, cuda:1.  [the best there is]"}),
    ("--precision", {"type": click.Choice(["fp32", "bf16"]),
                     "help": "Of the network.  [bf16 on GPUs, else fp32]"}),
    ("--batch-size", {"type": _WHOLE, "help": "Windows at once, of several files.  [16 on GPUs, "
                      "1 on CPUs]"}),
    ("--window-frames", {"type": _WHOLE, "help": "Length of a window in latent frames.  [that of "
                         "the crops that the model learned from]"}),
    ("--codec-weights", {"type": _PATH, "help": "Weights of the codec that the model was trained "
                         "with.  [the usual places]"}),
)  # fmt: skip
_BOTH: Options = (
    ("--rate", {"type": click.IntRange(8000, 384000), "default": 44100, "show_default": True,
                "help": "Hz; everything is compared at this rate."}),
    ("--bits", {"type": click.Choice(["float", "16", "24"]), "default": "float",
                "show_default": True, "help": "Round all signals to so many bits first."}),
    ("--clip-seconds", {"metavar": "SECONDS|all", "help": "Compare so much from the middle of each "
                        f"file.  [all; with --model {CLIP_SECONDS:g}]"}),
    ("--seed", {"type": click.IntRange(min=0), "default": 0, "show_default": True,
                "help": "Of the bootstrap, and of what is generated."}),
    ("--pictures", {"type": click.Path(file_okay=False, path_type=Path),
                    "help": "Write a picture of the spectrograms of every file there."}),
    ("--json", {"is_flag": True, "help": "Print JSON."}),
    ("--csv", {"is_flag": True, "help": "Print CSV, a line per file and candidate."}),
)  # fmt: skip
_NAMES = {"--cfg": "guidance", "--json": "as_json", "--csv": "as_csv"}
_FORMS: dict[Form, Options] = {"pairs": _PAIRS, "model": _MODEL}
_NEEDED: dict[Form, tuple[str, str]] = {
    "pairs": ("--reference", "--estimate"),
    "model": ("--model", "--data"),
}
_USAGE = (
    "compare files with --reference R --estimate E [--low L], or evaluate a model with "
    "--model M --data DIR"
)


def evaluate_options(command: Command) -> Command:
    """Add them to a command."""
    for flag, how in reversed((*_PAIRS, *_MODEL, *_BOTH)):
        command = click.option(flag, _name(flag), **how)(command)
    return command


def form_of(given: Collection[str]) -> Form:
    """Which form is meant.

    Args:
        given: names of the options that were, as a command knows them.

    Raises:
        ConfigError: none of the two, both, or something that it needs is missing.
    """
    asked: dict[Form, list[str]] = {
        form: [flag for flag, _ in options if _name(flag) in given]
        for form, options in _FORMS.items()
    }
    if asked["pairs"] and asked["model"]:
        raise ConfigError(
            f"{asked['pairs'][0]} and {asked['model'][0]} do not belong together", hint=_USAGE
        )
    form: Form = "model" if asked["model"] else "pairs"
    missing = [flag for flag in _NEEDED[form] if flag not in asked[form]]
    if missing:
        found = ", ".join(asked[form]) or "neither them nor --model and --data"
        raise ConfigError(f"expected {' and '.join(missing)}, found {found}", hint=_USAGE)
    return form


def clip_seconds(text: str | None, default: float | None) -> float | None:
    """The value of --clip-seconds; None for all of a file.

    Raises:
        ConfigError: it is none.
    """
    if text is None:
        return default
    if text == "all":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"--clip-seconds {text}: expected seconds, such as 6, or all")
    return seconds or None


def low_rates(text: str, rate: int) -> list[int]:
    """The values of --rates.

    Args:
        text: as given.
        rate: Hz, of the comparison.

    Raises:
        ConfigError: one is no rate below that of the comparison, or they are not different.
    """
    hint = f"such as --rates {RATES}"
    try:
        rates = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--rates {text}: expected whole numbers of Hz with commas between them", hint=hint
        ) from error
    wrong = [found for found in rates if not LOWEST_RATE <= found < rate]
    if wrong:
        raise ConfigError(
            f"--rates: expected {LOWEST_RATE} Hz or more and less than --rate {rate}, found "
            f"{', '.join(map(str, wrong))}",
            hint=hint,
        )
    if len(set(rates)) < len(rates):
        raise ConfigError(f"--rates {text}: expected each rate once", hint=hint)
    return rates


def _name(flag: str) -> str:
    return _NAMES.get(flag, flag.lstrip("-").replace("-", "_"))
