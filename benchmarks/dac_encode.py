"""How fast DAC encodes a high-res/low-res pair, four ways, on the same audio in one run.

The network has random weights: they change neither the work nor the memory. Run by hand:

    python benchmarks/dac_encode.py
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import click
import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from jatsr_model.codecs import CodecConfig, encode, frames_of, load, resolve
from jatsr_model.codecs.dac import DacCodec

RATE = 44_100
Wave = NDArray[np.float32]
Clock = Callable[[], float]
CASES: Mapping[str, Mapping[str, Any]] = {
    "rearranged, fp32 eager": {},
    "rearranged, fp32 compiled": {"compile": True},
    "rearranged, bf16 compiled": {"compile": True, "precision": "bf16"},
}


def synthetic_pair(seconds: float) -> Wave:
    """Chords with vibrato and drum-like noise, and the same brought down to 16 kHz and back."""
    generator = np.random.default_rng(0)
    time_axis = np.arange(int(seconds * RATE)) / RATE
    wave = np.zeros_like(time_axis)
    for pitch in (110.0, 165.0, 220.0, 277.2, 1318.5):
        vibrato = 0.004 * np.sin(2 * np.pi * generator.uniform(3, 6) * time_axis)
        level = 0.08 * (1 + np.sin(2 * np.pi * generator.uniform(0.2, 1) * time_axis))
        wave += level * np.sin(2 * np.pi * pitch * (time_axis + vibrato / 4))
    wave += 0.15 * generator.standard_normal(len(wave)) * np.exp(-12 * ((time_axis * 2) % 1))
    high = wave.astype(np.float32)
    low = soxr.resample(soxr.resample(high, RATE, 16_000), 16_000, RATE)
    low = np.pad(low, (0, max(0, len(high) - len(low))))[: len(high)]
    return np.stack([high, low])


@torch.inference_mode()
def reference_loop(model: Any, waves: Wave) -> None:
    """The common loop: 7 s chunks with 0.5 s on both sides, one at a time, resampled each time."""
    for wave in waves:
        padded = np.pad(wave, RATE // 2)
        for start in range(0, len(wave), 7 * RATE):
            chunk = padded[start : start + 8 * RATE]
            chunk = soxr.resample(soxr.resample(chunk, RATE, 48_000), 48_000, RATE)
            tensor = torch.from_numpy(np.ascontiguousarray(chunk))
            model.encode(tensor[None, None])


@torch.inference_mode()
def stock_codes(model: Any, codec: DacCodec, waves: Wave) -> NDArray[np.uint16]:
    """The unchanged module, eager, on the very windows our codec uses."""
    hop, context = codec.hop, codec.encode_context
    core = codec.window_frames - 2 * context
    frames = frames_of(waves.shape[-1], hop)
    rows = []
    for wave in waves:
        padded = np.pad(wave, (context * hop, codec.window_frames * hop))
        found = []
        for start in range(0, frames, core):
            window = torch.from_numpy(padded[start * hop : (start + codec.window_frames) * hop])
            codes = model.encode(window[None, None]).audio_codes[0]
            found.append(codes[:, context:-context].numpy().astype(np.uint16))
        rows.append(np.concatenate(found, axis=-1)[:, :frames])
    return np.stack(rows)


def timed(action: Callable[[], Any], clock: Clock) -> tuple[float, Any]:
    """Time of the action in seconds, and its result. It runs for long enough to do so once."""
    start = clock()
    result = action()
    return clock() - start, result


@click.command()
@click.option(
    "--seconds",
    default=41.6,
    show_default=True,
    help="Length of the pair; the default fills 6 chunks of the reference and 7 windows of ours.",
)
@click.option("--threads", default=2, show_default=True, help="CPU threads of torch.")
@click.option(
    "--cpu-time", is_flag=True, help="Count CPU seconds over threads: for a machine that is shared."
)
@click.option("--window-frames", default=0, help="Another window length than the default.")
def main(seconds: float, threads: int, cpu_time: bool, window_frames: int) -> None:
    """Print a table: x realtime per pair, ratio to the reference loop, agreement of codes."""
    torch.set_num_threads(threads)
    waves = synthetic_pair(seconds)

    def clock() -> float:
        return time.process_time() / threads if cpu_time else time.perf_counter()

    spec = resolve(CodecConfig(name="dac-44khz-untrained", device="cpu", compile=False))
    if window_frames:
        spec = replace(spec, window_frames=window_frames)
    eager = load(spec)
    assert isinstance(eager, DacCodec)
    model = eager.model
    click.echo(
        f"{seconds:g} s pair, {threads} threads, windows of {spec.window_frames} frames, "
        f"torch {torch.__version__}"
    )
    base, _ = timed(lambda: reference_loop(model, waves), clock)
    _row("reference loop, fp32 eager", seconds, base, base, None)
    elapsed, truth = timed(lambda: stock_codes(model, eager, waves), clock)
    _row("stock module, our windows", seconds, elapsed, base, None)
    for label, changes in CASES.items():
        start = time.perf_counter()
        codec = DacCodec(model, replace(spec, **changes)) if changes else eager
        encode(codec, waves[:, : 512 * 8])
        ready = time.perf_counter() - start
        elapsed, codes = timed(lambda codec=codec: encode(codec, waves), clock)  # type: ignore[misc]
        _row(label, seconds, elapsed, base, codes == truth, ready)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    click.echo(f"peak memory of this process, all of the above in it: {peak:.2f} GiB")


def _row(
    label: str,
    seconds: float,
    elapsed: float,
    base: float,
    equal: NDArray[np.bool_] | None,
    ready: float = 0.0,
) -> None:
    text = f"{label:28s} {seconds / elapsed:6.2f} x realtime per pair  {base / elapsed:5.2f} x ref"
    if equal is not None:
        first = equal[:, 0].mean()
        text += f"  codes equal {equal.mean():.5f} (first book {first:.5f})  ready in {ready:.1f} s"
    click.echo(text)


if __name__ == "__main__":
    main()
