"""What training costs: steps against a plain implementation, memory, and the trainer around them.

    python benchmarks/training.py step [--model v1] [--crop 1378x2] [--device cuda]
    python benchmarks/training.py memory [--model v3]
    python benchmarks/training.py overhead [DATASET] [--device cuda]

``step`` makes one step (forward, mean square error, backward, clip, AdamW) in several ways that
take turns, after it has made sure that the plain network (``plain_dit.py``) has the same gradients.
"x plain" is how many times as fast a way is: the median of the ratios of each turn, against the
plain network in float32, and for ways in bf16 also against the plain one in bf16.

``memory`` has a process of its own for each measurement: highest memory of a forward and backward
pass of one crop under bf16 autocast, less what the process had with weights and gradients. Beside
it is what ``jatsr models`` counts, also with the bf16 copies of weights that autocast makes.

``overhead`` trains as ``jatsr train`` does, on DATASET or on a small one that it builds, and makes
a bare step (forward, loss, backward, AdamW, on tensors made before) between any two steps. Counted
for the trainer: waiting for data, normalising, noise, clipping, the moving average, the log.

With ``--device cuda`` also the model FLOPs utilisation: three times the operations counted for a
forward pass, over the time of a step, over the 989 TFLOP/s of an H100 or H200 in dense bf16.
"""

from __future__ import annotations

import json
from typing import Any

import click
import torch
from common import machine, table
from training_memory import memory
from training_overhead import overhead
from training_ways import (
    Timing,
    Way,
    clock_of,
    compare,
    difference,
    make_case,
    make_optimizers,
    make_step,
    make_weights,
    ratio,
    utilisation,
)

from jatsr_model.dit import Preset, preset

PLAIN = Way(plain=True)
WAYS = (
    PLAIN,
    Way(),
    Way(compile="blocks"),
    Way(compile="blocks", eager_chance=True),
    Way(plain=True, bf16=True),
    Way(bf16=True),
    Way(bf16=True, compile="blocks"),
    Way(bf16=True, compile="blocks", eager_chance=True),
)
WHOLE = (Way(compile="all"), Way(bf16=True, compile="all"))


@click.group()
def main() -> None:
    """Measure."""


def _crop(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[tuple[int, int]]:
    return [(int(frames), int(batch)) for frames, batch in (v.split("x") for v in values)]


@main.command()
@click.option("--model", "models", multiple=True, default=("v1", "s", "mdct-s"), show_default=True)
@click.option("--crop", "crops", multiple=True, default=("1378x2", "512x8"), show_default=True,
              callback=_crop, help="Frames and how many crops.")  # fmt: skip
@click.option("--rounds", default=7, show_default=True)
@click.option("--threads", default=2, show_default=True, help="CPU threads of torch.")
@click.option("--cpu-time", is_flag=True,
              help="Count processor time over threads: for a machine that is shared.")  # fmt: skip
@click.option("--whole", is_flag=True, help="Also compile whole networks; takes minutes each.")
@click.option("--only", help="Only ways with this in their name, and the plain one.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option("--json", "as_json", is_flag=True)
def step(
    models: tuple[str, ...],
    crops: list[tuple[int, int]],
    threads: int,
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """One training step, in several ways."""
    torch.set_num_threads(threads)
    rows, found = [], []
    with torch.device(device):
        for name in models:
            for crop in crops:
                facts, lines = _compare(preset(name), *crop, device, **options)
                found += facts
                rows += lines
                if not as_json:
                    click.echo(f"{name} {crop}: {facts[0]['gradients_apart']:.1e} apart", err=True)
    if as_json:
        click.echo(json.dumps(found))
        return
    header = ("model", "frames x crops", "way", "step", "least .. most", "first step",
              "x plain fp32", "x plain bf16", *(["MFU"] if device == "cuda" else []))  # fmt: skip
    click.echo(f"{machine()}, {threads} threads, torch {torch.__version__}")
    click.echo(table(header, rows))


def _compare(
    model: Preset,
    frames: int,
    batch: int,
    device: str,
    *,
    rounds: int,
    cpu_time: bool,
    whole: bool,
    only: str | None,
) -> tuple[list[dict[str, Any]], list[tuple[object, ...]]]:
    config, weights = model.config, make_weights(model.config)
    case = make_case(config, frames, batch)
    apart = difference(config, weights, case)
    if not apart < 1e-4:
        raise click.ClickException(f"gradients of {model.name} are {apart:.1e} apart: not the same")
    ways = [w for w in (*WAYS, *(WHOLE if whole else ())) if w == PLAIN or (only or "") in str(w)]
    torch._dynamo.reset()
    optimizers = make_optimizers(config, weights)
    steps = {str(way): make_step(way, config, weights, optimizers, case) for way in ways}
    times = compare(steps, rounds, clock_of(device, cpu_time))
    facts, rows = [], list[tuple[object, ...]]()
    for way in ways:
        time = times[str(way)]
        fact = _fact(way, time, times)
        fact |= {"model": model.name, "frames": frames, "batch": batch, "gradients_apart": apart}
        if device == "cuda":
            fact["utilisation"] = utilisation(model, frames, batch, time.median)
        facts.append(fact)
        rows.append(_row(fact))
    return facts, rows


def _fact(way: Way, time: Timing, times: dict[str, Timing]) -> dict[str, Any]:
    in_bf16 = times.get(str(Way(plain=True, bf16=True))) if way.bf16 else None
    return {
        "way": str(way),
        "seconds": time.median,
        "steps": time.steps,
        "first": time.first,
        "of_plain": ratio(times[str(PLAIN)], time),
        "of_plain_bf16": ratio(in_bf16, time) if in_bf16 else None,
    }


def _row(fact: dict[str, Any]) -> tuple[object, ...]:
    steps = fact["steps"]
    return (
        fact["model"],
        f"{fact['frames']} x {fact['batch']}",
        fact["way"],
        f"{1e3 * fact['seconds']:.0f} ms",
        f"{1e3 * min(steps):.0f} .. {1e3 * max(steps):.0f}",
        f"{fact['first']:.1f} s",
        *(f"{fact[k]:.2f}" if fact[k] else "" for k in ("of_plain", "of_plain_bf16")),
        *([f"{100 * fact['utilisation']:.1f} %"] if "utilisation" in fact else []),
    )


main.add_command(memory)
main.add_command(overhead)

if __name__ == "__main__":
    main()
