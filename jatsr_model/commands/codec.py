"""``jatsr codec``: fetch weights, see what is usable here, measure a codec on one's own audio."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jatsr_model.codecs import CodecConfig, resolve
from jatsr_model.codecs.registry import CODECS
from shards.errors import JatsrError

if TYPE_CHECKING:
    from jatsr_model.codecs.check import Check

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_weights = click.option(
    "--codec-weights",
    type=click.Path(path_type=Path),
    help="DAC weights: .safetensors, a Hugging Face folder, or the original .pth.",
)
_device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to encode.",
)


@click.group()
def codec() -> None:
    """Codecs: fetch weights, show what is usable, measure on your audio."""


@codec.command()
@click.option(
    "--from",
    "origin",
    type=click.Choice(["huggingface", "github"]),
    default="huggingface",
    show_default=True,
    help="Hub repository descript/dac_44khz, or the original release.",
)
@click.option("--revision", default="", help="Commit, branch or tag; recorded as a commit.")
@click.option("--sha256", default="", help="Expected hash of the weight file.")
@click.option("--force", is_flag=True, help="Download again.")
@_as_json
def fetch(origin: Any, revision: str, sha256: str, force: bool, as_json: bool) -> None:
    """Download the weights of dac-44khz into the cache, once.

    The first download is trusted unless --sha256 says what to expect; its revision and hash are
    recorded beside it, and every later load compares the file to that record.
    """
    from jatsr_model.codecs.fetch import FetchRequest
    from jatsr_model.codecs.fetch import fetch as download

    path, source = download(FetchRequest.to_cache(origin, revision, sha256, force=force))
    if as_json:
        click.echo(json.dumps({"path": str(path), **asdict(source)}, indent=1))
        return
    click.echo(f"{path}\n  from     {source.url}\n  revision {source.revision}")
    click.echo(f"  sha256   {source.sha256}")
    click.echo(
        "To demand exactly these bytes elsewhere: jatsr codec fetch "
        f"--from {origin} --revision {source.revision} --sha256 {source.sha256}"
    )


@codec.command()
@_weights
@_device
@_as_json
def info(codec_weights: Path | None, device: str, as_json: bool) -> None:
    """Show which codecs are usable here, and what the others lack."""
    rows = [_describe(name, codec_weights, device) for name in CODECS]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(f"{row.pop('name')}: {'usable' if row.pop('usable') else 'not usable'}")
        for key, value in row.items():
            click.echo(f"  {key}: {value if isinstance(value, str) else json.dumps(value)}")


def _describe(name: str, weights: Path | None, device: str) -> dict[str, Any]:
    is_dac = name != "mdct"
    config = CodecConfig(
        name=name,
        weights=weights if name == "dac-44khz" else None,
        device=device if is_dac else "cpu",
    )
    try:
        spec = resolve(config)
    except JatsrError as error:
        return {"name": name, "usable": False, "missing": error.message, "hint": error.hint}
    row: dict[str, Any] = {"name": name, "usable": True, "identity": dict(spec.identity)}
    if spec.weights is not None:
        from jatsr_model.codecs.weights import read_source

        source = read_source(spec.weights)
        row |= {"weights": str(spec.weights), "source": asdict(source) if source else None}
    per_second = spec.stored_rows * (2 * spec.sample_rate / spec.hop)
    return row | {"stored_mb_per_hour_and_channel": round(per_second * 3600 / 1e6, 2)}


@codec.command()
@click.argument("audio", nargs=-1, type=click.Path(path_type=Path))
@click.option("--codec", "name", type=click.Choice(CODECS), default="mdct", show_default=True)
@_weights
@_device
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32")
@click.option("--compile/--no-compile", "compile_it", default=True, help="Compile the encoder.")
@click.option("--seconds", default=30.0, show_default=True, help="Measure so much of each file.")
@_as_json
def check(
    audio: tuple[Path, ...],
    name: str,
    codec_weights: Path | None,
    device: str,
    precision: str,
    compile_it: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure a codec on AUDIO files, or on a synthetic signal where none is named.

    The round trip of a codec is the ceiling of any model trained on its latents.
    """
    from jatsr_model.codecs.check import Checker, read_audio, synthetic_audio

    config = CodecConfig(
        name=name,
        weights=codec_weights,
        device=device,
        precision=precision,
        compile=compile_it,
    )
    checker = Checker(resolve(config))
    rate = checker.spec.sample_rate
    results = [checker.check(str(p), read_audio(p, rate, seconds)) for p in audio]
    if not audio:
        results = [checker.check("(synthetic)", synthetic_audio(rate, seconds))]
    if as_json:
        identity = dict(checker.spec.identity)
        rows = [asdict(result) for result in results]
        click.echo(json.dumps({"codec": identity, "files": rows}, indent=1))
        return
    for result in results:
        click.echo(_line(result))


def _line(result: Check) -> str:
    lsd = "-" if result.lsd is None else f"{result.lsd:.3f}"
    snr = "exact" if result.snr_db is None else f"{result.snr_db:.1f} dB"
    text = (
        f"{result.file}: {result.seconds:.1f} s x {result.channels}, round trip SNR {snr}, "
        f"LSD {lsd}, {result.stored_mb_per_hour:.1f} MB/h and channel, "
        f"encodes {result.encode_realtime:.1f} x realtime"
    )
    if result.bf16_agreement is not None:
        text += f", bf16 agrees with fp32 in {100 * result.bf16_agreement:.1f} % of codes"
    return text
