"""Options of ``jatsr train``, with the defaults of ``Recipe`` and ``Runtime``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

Command = Callable[..., Any]
_WHOLE = click.IntRange(min=1)
_COUNT = click.IntRange(min=0)

Table = tuple[tuple[str, Any, str], ...]

RECIPE: Table = (
    ("--model", str, "Network; see jatsr models.  [mdct-s or s, by the dataset's codec]"),
    ("--steps", _WHOLE, "Steps of the optimizer.  [100000]"),
    ("--batch-size", _WHOLE, "Crops of a step, all processes together.  [32]"),
    ("--crop-frames", _WHOLE, "Length of a crop in latent frames.  [512, about 6 s]"),
    ("--lr-variants", str, "Low-res variant: random, all, or a number.  [random]"),
    ("--lr", float, "Highest learning rate.  [0.0003]"),
    ("--schedule", click.Choice(["cosine", "constant", "inverse"]), "How it falls.  [cosine]"),
    ("--warmup", _COUNT, "Steps until it is reached.  [1000, or a tenth of the steps]"),
    ("--lr-floor", float, "Share of it at the end of cosine.  [0]"),
    ("--weight-decay", float, "Of AdamW, on matrices.  [0.01]"),
    ("--betas", (float, float), "Of AdamW.  [0.9 0.99]"),
    ("--clip", float, "Largest norm of the gradient.  [1]"),
    ("--ema", float, "Decay of the average of weights that is used.  [0.9999]"),
    ("--times", str, "Law of t: logit-normal, uniform, u-shape or tent.  [logit-normal]"),
    ("--condition-dropout", float, "How often a condition is left out.  [0.1, envelopes 0.7]"),
    ("--condition-noise", float, "Noise on low-res latents, in their units.  [0]"),
    ("--equalise", float, "Random equaliser, in log units; for mdct latents.  [0]"),
    ("--cut", float, "How often an input ends at a random frequency; for mdct latents.  [0]"),
    ("--end", float, "How often music ends below its cutoff by itself; for mdct latents.  [0]"),
    ("--precision", click.Choice(["fp32", "bf16"]), "Of the network.  [bf16 on GPUs, else fp32]"),
    ("--overfit", _WHOLE, "Learn so many crops by heart, then sample them: a check."),
    ("--seed", int, "Of weights, order and chance.  [0]"),
)
LOSS = ("--loss", "Weight of mse, charbonnier, frequency, multiscale, consistency or levels; "
        "several times.  [those of the model]")  # fmt: skip

RUNTIME: Table = (
    ("--device", str, "cpu, cuda, cuda:1.  [the best there is]"),
    ("--workers", _COUNT, "Processes that read.  [2]"),
    ("--micro-batch", _COUNT, "Crops in memory at once; gradients add up.  [all]"),
    ("--strategy", click.Choice(["ddp", "fsdp"]), "How processes share the work.  [ddp]"),
    ("--log-every", _WHOLE, "Steps.  [10]"),
    ("--val-every", _COUNT, "Steps; 0 for never.  [1000]"),
    ("--val-crops", _WHOLE, "How many crops are validated.  [64]"),
    ("--sample-every", _COUNT, "Steps between audio samples; 0 for never.  [5000]"),
    ("--samples", _WHOLE, "How many.  [4]"),
    ("--sample-steps", _WHOLE, "Of the solver.  [16]"),
    ("--save-every", _WHOLE, "Steps between checkpoints.  [1000]"),
    ("--keep", _WHOLE, "Newest checkpoints that are kept, beside the best.  [3]"),
    ("--keep-hours", float, "Keep one for good for so many hours of training.  [none]"),
    ("--max-bad-steps", _WHOLE, "Steps in a row without finite gradients that end it.  [10]"),
)

SWITCHES: tuple[tuple[str, str], ...] = (
    ("--recompute/--no-recompute", "Compute activations again instead of keeping them."),
    ("--compile/--no-compile", "Compile the network.  [on GPUs]"),
    ("--log-json/--no-log-json", "Also write the log as log.jsonl.  [no]"),
)


def training_options(command: Command) -> Command:
    """Add them to a command; what was not given is None."""
    for names, text in reversed(SWITCHES):
        command = click.option(names, default=None, help=text)(command)
    command = click.option(
        LOSS[0], "losses", multiple=True, callback=loss_weights, metavar="NAME=WEIGHT", help=LOSS[1]
    )(command)
    for name, kind, text in reversed((*RECIPE, *RUNTIME)):
        command = click.option(name, type=kind, help=text)(command)
    return command


def given(values: Mapping[str, Any], *tables: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """What was given of some tables, by field."""
    names = [row[0].split("/")[0][2:].replace("-", "_") for table in tables for row in table]
    return {name: values[name] for name in names if values[name] is not None}


def loss_weights(
    ctx: click.Context, option: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, float] | None:
    """``--loss NAME=WEIGHT``, several times; None where it was not given."""
    found = {}
    for pair in pairs:
        name, _, weight = pair.partition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            raise click.BadParameter(
                f"{pair!r}: expected NAME=WEIGHT, such as frequency=0.15", ctx, option
            ) from None
    return found or None
