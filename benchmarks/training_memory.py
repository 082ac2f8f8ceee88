"""Highest memory of a forward and backward pass; see ``training.py``."""

from __future__ import annotations

import ctypes
import gc
import json
from dataclasses import replace
from pathlib import Path

import click
import torch
from common import machine, table
from reader import alone

from jatsr_model.dit import Conditions, DiT, preset
from jatsr_model.dit.measure import measure


@click.command()
@click.option("--model", default="v3", show_default=True)
@click.option("--seconds", default=16.0, show_default=True, help="Of the crop.")
@click.option("--json", "as_json", is_flag=True)
def memory(model: str, seconds: float, as_json: bool) -> None:
    """Highest memory of a training step, with and without recomputing."""
    cost = measure(preset(model), seconds)
    kept, recomputed = (alone(peak, model, seconds, again) for again in (False, True))
    copies = 2 * cost.parameters
    facts = {
        "activations kept": (kept, cost.activation_bytes),
        "activations recomputed": (recomputed, cost.recomputed_bytes),
    }
    if as_json:
        rows = [
            {
                "what": name,
                "measured": found,
                "counted": counted,
                "counted_with_copies": counted + copies,
            }
            for name, (found, counted) in facts.items()
        ]
        click.echo(json.dumps({"model": model, "seconds": cost.seconds, "rows": rows}))
        return
    lines: list[tuple[object, ...]] = [
        (name, *(f"{value / 1e9:.2f} GB" for value in (found, counted, counted + copies)))
        for name, (found, counted) in facts.items()
    ]
    header = ("one crop", "measured", "counted", "counted, with bf16 weights")
    click.echo(f"{machine()}; {model}, {cost.seconds:.1f} s")
    click.echo(table(header, lines))
    click.echo(f"without recomputing {kept / recomputed:.2f} times as much")


def peak(model: str, seconds: float, recompute: bool) -> int:
    """Bytes above those of weights and gradients. On Linux; in a process of its own."""
    known = preset(model)
    config = replace(known.config, dropout=0.0)  # as counted
    network = DiT(config).train()
    network.recompute = recompute
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter).add_(1e-9)  # written to, so that it is there
    frames = round(seconds * known.frame_rate / config.patch) * config.patch
    low, noisy = torch.randn(2, 1, config.latent_dim, frames)
    given = Conditions(low=low, rolloff=torch.rand(1, 2))
    before = _settled()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(noisy, torch.rand(1), given)
    out.float().square().mean().backward()
    return _status("VmHWM") - before


def _settled() -> int:
    """Give back what is free, forget the highest memory so far, say how much there is now."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
