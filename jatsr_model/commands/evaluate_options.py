"""Options of ``jatsr evaluate``, and which of its two forms they make."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import click

from jatsr_model.upsampling.options import (
    MODEL,
    SAMPLING,
    Command,
    Options,
    name_of,
    with_options,
)
from shards.errors import ConfigError

Form = Literal["pairs", "model"]

LOWEST_RATE = 1000  # Hz
CLIP_SECONDS = 6.0  # of every file, where a model is evaluated
RATES = "4000,8000,16000,24000,32000"
_PATH = click.Path(path_type=Path)

_PAIRS: Options = (
    ("--reference", {"type": _PATH, "help": "The originals: a file or a folder."}),
    ("--estimate", {"type": _PATH, "help": "What to measure, named alike."}),
    ("--low", {"type": _PATH, "help": "The low-res inputs, measured beside the estimates."}),
    ("--cutoff", {"type": float, "help": "Hz, where the inputs end.  [found from --low]"}),
    ("--allow-missing", {"is_flag": True, "help": "Files without a partner are no failure."}),
)
_MODEL: Options = (
    ("--model", MODEL),
    ("--data", {"type": _PATH, "help": "Music with its upper band: a file or a folder."}),
    ("--rates", {"default": RATES, "show_default": True, "metavar": "HZ,HZ,...",
                 "help": "Of the low-res versions."}),
    ("--baselines", {"is_flag": True, "help": "Also measure what can be had without learning."}),
    *SAMPLING,
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
    return with_options(command, (*_PAIRS, *_MODEL, *_BOTH))


def form_of(given: Collection[str]) -> Form:
    """Which form is meant.

    Args:
        given: names of the options that were, as a command knows them.

    Raises:
        ConfigError: none of the two, both, or something that it needs is missing.
    """
    asked: dict[Form, list[str]] = {
        form: [flag for flag, _ in options if name_of(flag) in given]
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
