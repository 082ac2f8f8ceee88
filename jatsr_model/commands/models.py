"""``jatsr models``: what the networks cost, and whether documents say the truth about them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from jatsr_model.dit.measure import Cost
    from jatsr_model.dit.recipe import Preset


def _number(_: click.Context, parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which every comparison with a range lets through
        raise click.BadParameter("expected a number", param=parameter)
    return value


@click.command()
@click.argument("name", required=False)
@click.option("--compare", nargs=2, metavar="A B", help="Two networks side by side.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=600),
    default=16.0,
    callback=_number,
    show_default=True,
    help="Length of the crop that memory is given for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(
    name: str | None, compare: tuple[str, str] | None, seconds: float, as_json: bool
) -> None:
    """List the networks, or describe NAME: parameters, memory, operations, claims.

    Everything is counted on the network itself, without memory for its weights. Memory is that of
    tensors under bf16 autocast on a CPU, a lower bound: what allocators and kernels add to it, and
    the float32 copies that GPUs keep for layer norms, are not in it.
    """
    from jatsr_model.dit import PRESETS, preset

    if name and compare:
        raise click.UsageError("give either NAME or --compare A B")
    chosen = [preset(n) for n in (compare or ([name] if name else PRESETS))]
    facts = [describe(one, seconds) for one in chosen]
    if as_json:
        click.echo(json.dumps(facts[0] if name else facts, indent=1))
    elif compare:
        click.echo(_side_by_side(facts))
    elif name:
        click.echo(_one(facts[0]))
    else:
        click.echo(_table(facts))


def describe(preset: Preset, seconds: float) -> dict[str, Any]:
    """All figures of a preset, JSON-ready; memory in bytes."""
    from jatsr_model.dit.measure import measure

    cost = measure(preset, seconds)
    return {
        "name": preset.name,
        "about": preset.about,
        "latents": preset.space,
        "parameters": cost.parameters,
        "modules": cost.modules,
        "modulated_share": cost.modulated_share,
        "crop_seconds": cost.seconds,
        "flops_per_audio_second": cost.flops_per_second,
        "training_bytes": cost.training_bytes,
        "training_bytes_per_further_crop": cost.activation_bytes,
        "recomputed_bytes_per_crop": cost.recomputed_bytes,
        "inference_bytes": cost.inference_bytes,
        "prediction": preset.prediction,
        "times": preset.times,
        "losses": dict(preset.losses),
        "config": asdict(preset.config),
        "claims": _claims(preset, cost),
    }


def _claims(preset: Preset, cost: Cost) -> list[dict[str, Any]]:
    from jatsr_model.dit.measure import measure

    rows = []
    for claim in preset.claims:
        counted = (
            cost.parameters
            if claim.quantity == "parameters"
            else measure(preset, claim.seconds).training_bytes
        )
        rows.append(
            {**claim._asdict(), "counted": counted, "claimed_to_counted": claim.value / counted}
        )
    return rows


_UNITS = {"parameters": (1e6, "M"), "training-bytes": (1e9, "GB")}


def _claim_text(row: dict[str, Any]) -> str:
    unit, symbol = _UNITS[row["quantity"]]
    off = 100 * (row["claimed_to_counted"] - 1)
    what = "parameters" if row["quantity"] == "parameters" else f"training, {row['seconds']:g} s"
    return f"{what}: {row['value'] / unit:g} {symbol} says {row['source']} ({off:+.1f} %)"


def _table(facts: list[dict[str, Any]]) -> str:
    head = f"{'':8} {'latents':13} {'parameters':>13} {'GFLOP':>8} {'train GB':>9} {'infer GB':>9}"
    lines = [
        f"{row['name']:8} {row['latents']:13} {row['parameters']:13,} "
        f"{row['flops_per_audio_second'] / 1e9:8.2f} {row['training_bytes'] / 1e9:9.2f} "
        f"{row['inference_bytes'] / 1e9:9.2f}  {row['about']}"
        for row in facts
    ]
    claims = [f"  {row['name']}: {_claim_text(c)}" for row in facts for c in row["claims"]]
    note = (
        "GFLOP: one evaluation, per second of audio. train: at least; weights, gradients, AdamW, "
        f"average, one crop of {facts[0]['crop_seconds']:.1f} s. infer: bf16."
    )
    return "\n".join(
        [head, *lines, note, "Claims, and how far they are from what was counted:", *claims]
    )


def _figures(row: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """Label -> value and unit, in the order of printing."""
    parts = {f"  {k}": (v / 1e6, "M") for k, v in sorted(row["modules"].items())}
    return {
        "parameters": (row["parameters"] / 1e6, "M"),
        **parts,
        "operations per audio-second": (row["flops_per_audio_second"] / 1e9, "GFLOP"),
        "training, first crop": (row["training_bytes"] / 1e9, "GB"),
        "each further crop": (row["training_bytes_per_further_crop"] / 1e6, "MB"),
        "the same, recomputed": (row["recomputed_bytes_per_crop"] / 1e6, "MB"),
        "inference, bf16": (row["inference_bytes"] / 1e9, "GB"),
    }


def _one(row: dict[str, Any]) -> str:
    lines = [f"{row['name']}: {row['about']}", f"{'latents':30} {row['latents']}"]
    lines += [f"{k:30} {v:12.3f} {unit}" for k, (v, unit) in _figures(row).items()]
    lines.append(f"{'acts on one vector per sample':30} {100 * row['modulated_share']:12.1f} %")
    losses = ", ".join(f"{k} {v:g}" for k, v in row["losses"].items())
    lines.append(f"{'trained with':30} {losses}; predicts {row['prediction']}; t {row['times']}")
    lines += [f"{'claim':30} {_claim_text(claim)}" for claim in row["claims"]]
    return "\n".join(lines)


def _side_by_side(facts: list[dict[str, Any]]) -> str:
    left, right = (_figures(row) for row in facts)
    lines = [f"{'':30} {facts[0]['name']:>12} {facts[1]['name']:>12}   ratio"]
    for label in [*left, *(k for k in right if k not in left)]:
        a, unit = left.get(label, (0.0, ""))
        b, unit = right.get(label, (0.0, unit))
        ratio = f"{b / a:7.2f}" if a else "      -"
        lines.append(f"{label:30} {a:12.3f} {b:12.3f} {ratio} {unit}")
    return "\n".join(lines)
