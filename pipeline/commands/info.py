"""``jatsr info``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click

_COLUMNS = ("split", "track", "seconds", "rolloff", "caption_source")


@click.command()
@click.argument("dest")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--failed", is_flag=True, help="List failed inputs with reasons and hints.")
def info(dest: str, as_json: bool, failed: bool) -> None:
    """Say what is in a dataset, in audio-hours, and how it was made."""
    from shards.layout import LEDGER, SAMPLES
    from shards.manifest import read_manifest
    from shards.storage import open_store
    from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table

    store = open_store(dest)
    manifest = read_manifest(store)
    ledger = read_table(store, LEDGER, LEDGER_SCHEMA)
    facts = describe(manifest, read_table(store, SAMPLES, SAMPLES_SCHEMA, _COLUMNS), ledger)
    if as_json:
        click.echo(json.dumps({"dataset": store.url, **facts}))
        return
    click.echo(text(store.url, facts))
    if failed:
        for row in ledger:
            if row["status"] == "failed":
                click.echo(
                    f"{row['source']}\n  {row['stage']}: {row['reason']}\n  hint: {row['hint']}"
                )


def describe(
    manifest: Any, samples: Sequence[Mapping[str, Any]], ledger: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All facts, JSON-ready."""
    splits = {}
    streams = 1 + manifest.variants
    for split, entries in manifest.splits.items():
        rows = [row for row in samples if row["split"] == split]
        seconds = sum(row["seconds"] for row in rows)
        count = sum(entry.bytes for entry in entries)
        splits[split] = {
            "audio_hours": seconds / 3600,
            "tracks": len({row["track"] for row in rows}),
            "samples": len(rows),
            "shards": len(entries),
            "bytes": count,
            "bytes_per_hour_and_stream": count * 3600 / seconds / streams if seconds else None,
        }
    rolloffs = [row["rolloff"] for row in samples]
    nyquist = manifest.codec["sample_rate"] / 2
    return {
        "fingerprint": manifest.fingerprint,
        "splits": splits,
        "files": dict(Counter(row["status"] for row in ledger)),
        "captions": dict(Counter(row["caption_source"] or "none" for row in samples)),
        "mean_rolloff_hz": [
            round(nyquist * sum(r[s] for r in rolloffs) / len(rolloffs)) for s in range(streams)
        ] if rolloffs else [],
        "config": dict(manifest.config),
        "made_with": dict(manifest.made_with),
    }  # fmt: skip


def text(dest: str, facts: Mapping[str, Any]) -> str:
    """The facts for people."""
    from pipeline.commands.report import size

    config = facts["config"]
    codec = config["codec"]
    lines = [f"{dest}  (fingerprint {facts['fingerprint'][:12]})"]
    for split, numbers in facts["splits"].items():
        rate = numbers["bytes_per_hour_and_stream"]
        more = f", {size(rate)} per hour and stream" if rate else ""
        lines.append(
            f"  {split:<6} {numbers['audio_hours']:.3f} h in {numbers['tracks']} tracks, "
            f"{numbers['samples']} samples, {numbers['shards']} shards, "
            f"{size(numbers['bytes'])}{more}"
        )
    untrained = ", UNTRAINED random weights" if codec.get("untrained") else ""
    variants = ", ".join(
        f"{spec} (roll-off {hz} Hz)"
        for spec, hz in zip(config["degrade"]["lr"], facts["mean_rolloff_hz"][1:], strict=False)
    )
    loudness = config["loudness"]["target_lufs"]
    files = ", ".join(f"{count} {status}" for status, count in sorted(facts["files"].items()))
    captions = ", ".join(f"{count} {source}" for source, count in sorted(facts["captions"].items()))
    lines += [
        f"  codec  {codec['name']}, {codec['sample_rate']} Hz, hop {codec['hop']}, "
        f"{config['channels']}{untrained}",
        f"  hr     roll-off {(facts['mean_rolloff_hz'] or ['-'])[0]} Hz on average",
        f"  lr     {variants}",
        f"  level  {'as it was' if loudness is None else f'{loudness:g} LUFS, one gain per track'}",
        f"  split  by {config['split']['by']}, "
        f"{100 * config['split']['val_fraction']:g} % validation",
        f"  texts  {captions}",
        f"  files  {files}",
        "  made with " + ", ".join(f"{k} {v}" for k, v in sorted(facts["made_with"].items())),
    ]
    return "\n".join(lines)
