"""Plans and outcomes in words and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.build import Outcome
from pipeline.commands.progress import hours
from pipeline.estimate import Estimate
from pipeline.plan import Plan
from pipeline.tally import Tally, cause_of


def size(count: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def plan_json(plan: Plan, numbers: Estimate) -> dict[str, Any]:
    """A dry run for scripts."""
    return {
        "tracks": len(plan.tasks),
        "audio_hours": round(plan.seconds / 3600, 4),
        "splits": dict(Counter(plan.splits.values())),
        "shards": [{"name": s.name, "tracks": len(s.tracks)} for s in plan.shards],
        "bytes": numbers.bytes,
        "seconds": round(numbers.seconds, 1),
        "realtime": round(numbers.realtime, 2),
        "workers": numbers.workers,
        "settled": dict(Counter(str(row["status"]) for row in plan.ledger)),
    }


def plan_text(plan: Plan, numbers: Estimate) -> str:
    """A dry run for people."""
    settled = Counter((str(r["status"]), cause_of(str(r.get("reason") or ""))) for r in plan.ledger)
    splits = Counter(plan.splits.values())
    lines = [
        f"to build   {len(plan.tasks)} tracks, about {hours(plan.seconds)} of audio "
        f"({splits['train']} train, {splits['val']} val)",
        f"shards     {len(plan.shards)} new, about {size(numbers.bytes)} (and as much again while "
        "building)",
        f"time       about {hours(numbers.seconds)} at {numbers.realtime:.0f}x realtime "
        f"({numbers.workers} workers, measured with a short probe)",
    ]
    for (status, cause), count in sorted(settled.items()):
        lines.append(f"{status:<10} {count} files" + (f": {cause}" if cause else ""))
    lines.append("nothing was written (--dry-run)")
    return "\n".join(lines)


def outcome_json(outcome: Outcome, dest: str) -> dict[str, Any]:
    """The result for scripts."""
    manifest, tally = outcome.manifest, outcome.tally
    return {
        "dataset": dest,
        "changed": outcome.changed,
        "fingerprint": manifest.fingerprint,
        "files": dict(tally.results),
        "reasons": {status: dict(counts) for status, counts in tally.reasons.items()},
        "samples": sum(entry.samples for entry in manifest.shards),
        "audio_hours": sum(e.frames for e in manifest.shards) * manifest.seconds_per_frame / 3600,
        "bytes": sum(entry.bytes for entry in manifest.shards),
        "built_audio_seconds": round(tally.seconds, 3),
        "build_seconds": round(tally.wall, 3),
        "realtime": round(tally.seconds / tally.wall, 2) if tally.wall else None,
        "stage_seconds": {k: round(v, 3) for k, v in sorted(tally.stages.items())},
    }


def outcome_text(outcome: Outcome, dest: str) -> str:
    """The closing table."""
    manifest, tally = outcome.manifest, outcome.tally
    if not outcome.changed:
        return f"{dest} is complete: nothing to do ({_counts(tally)})"
    seconds = sum(entry.frames for entry in manifest.shards) * manifest.seconds_per_frame
    bytes_ = sum(entry.bytes for entry in manifest.shards)
    samples = sum(entry.samples for entry in manifest.shards)
    lines = [
        f"dataset    {dest}",
        f"files      {_counts(tally)}",
        *_reason_lines(tally),
        f"content    {samples} samples, {hours(seconds)} of audio in "
        f"{len(manifest.shards)} shards, {size(bytes_)}",
    ]
    if tally.wall:
        lines.append(
            f"speed      {hours(tally.seconds)} of audio in {hours(tally.wall)}: "
            f"{tally.seconds / tally.wall:.1f}x realtime"
        )
    if tally.stages:
        lines.append("work       " + _stage_line(tally))
    if tally.results["failed"]:
        lines.append("jatsr info --failed lists the failures with reasons and hints")
    if not manifest.splits.get("val"):
        lines.append("no track fell into the validation split; add tracks or raise --val-fraction")
    return "\n".join(lines)


def _counts(tally: Tally) -> str:
    text = ", ".join(f"{tally.results[s]} {s}" for s in ("ok", "skipped", "failed"))
    return text + (f"; {tally.resumed} of them from an earlier run" if tally.resumed else "")


def _reason_lines(tally: Tally) -> list[str]:
    return [
        f"  {status:<8} {count} x {reason}"
        for status in ("skipped", "failed")
        for reason, count in tally.reasons[status].most_common(12)
    ]


def _stage_line(tally: Tally) -> str:
    total = sum(tally.stages.values())
    parts = [f"{name} {100 * s / total:.0f} %" for name, s in tally.stages.most_common()]
    return ", ".join(parts)
