"""What a run of ``jatsr upsample`` did: a bar while it lasts, a table at its end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.commands.progress import hours
from pipeline.upsample.ledger import LEDGER
from shards.files import printable

if TYPE_CHECKING:
    from pipeline.upsample.batch import Outcome
    from pipeline.upsample.names import Planned
    from pipeline.upsample.plan import Plan
    from shards.storage import Store

_LINE_SECONDS = 30.0
_MOST = 20  # files listed by name
_FEW = 5  # of those that are there after all
_STATUSES = ("ok", "passed-through", "skipped", "failed")


class Progress:
    """One bar in audio time for people, a line every 30 seconds for logs."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._total = self._done = 0.0
        self._began = self._spoke = time.monotonic()

    def note(self, message: str) -> None:
        """Say something above the bar."""
        tqdm.write(message, file=sys.stderr)

    def start(self, seconds: float) -> None:
        """So much audio is to be read."""
        self._total = seconds
        if sys.stderr.isatty():
            form = (
                "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} min of audio "
                "[{elapsed}<{remaining}{postfix}]"
            )
            self._bar = tqdm(total=seconds / 60, desc="upsample", bar_format=form, file=sys.stderr,
                             dynamic_ncols=True)  # fmt: skip

    def advance(self, seconds: float) -> None:
        """So much was."""
        self._done += seconds
        now = time.monotonic()
        speed = self._done / max(now - self._began, 1e-9)
        if self._bar is not None:
            # Planned lengths are the headers' claims; the bar must not run past its end.
            self._bar.total = max(self._bar.total, self._done / 60)
            self._bar.set_postfix_str(f"{speed:.1f}x realtime", refresh=False)
            self._bar.update(seconds / 60)
        elif now - self._spoke >= _LINE_SECONDS:
            self._spoke = now
            left = tqdm.format_interval(max(self._total - self._done, 0) / max(speed, 1e-9))
            self.note(f"upsample: {hours(self._done)} of {hours(self._total)} of audio, "
                      f"{speed:.1f}x realtime, {left} left")  # fmt: skip

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def plan_json(plan: Plan, out: Store) -> dict[str, Any]:
    """A dry run for scripts."""
    return {
        "todo": [{"source": i.shown, "target": _target(i, out)} for i in plan.todo],
        "done": [i.name for i in plan.done],
        "other": [{"source": i.shown, "reason": done.reason} for i, done in plan.other],
        "audio_seconds": round(plan.seconds, 3),
    }


def plan_text(plan: Plan, out: Store) -> str:
    """A dry run for people."""
    lines = [f"to do      {len(plan.todo)} files, about {hours(plan.seconds)} of audio"]
    lines += [f"  {i.shown} -> {_target(i, out)}" for i in plan.todo[:_MOST]]
    if len(plan.todo) > _MOST:
        lines.append(f"  and {len(plan.todo) - _MOST} more")
    if plan.done:
        lines.append(f"done       {len(plan.done)} files")
    lines += [f"{'other':<10} {count} x {reason}" for reason, count in _reasons(plan)]
    return "\n".join([*lines, "nothing was written (--dry-run)"])


def outcome_json(outcome: Outcome, out: str, seconds: float) -> dict[str, Any]:
    """The result for scripts."""
    return {
        "out": out,
        "files": {status: outcome.counts[status] for status in _STATUSES},
        "kept": outcome.kept,
        "audio_seconds": round(outcome.seconds, 3),
        "took_seconds": round(seconds, 3),
        "rows": outcome.rows,
    }


def outcome_text(outcome: Outcome, out: str, seconds: float) -> str:
    """The closing table."""
    kept = f"; {outcome.kept} of them by an earlier run" if outcome.kept else ""
    counts = outcome.counts
    words = ", ".join(f"{counts[status]} {status}" for status in _STATUSES if counts[status])
    lines = [f"out        {out}", f"files      {words}{kept}"]
    for status in ("passed-through", "skipped"):
        rows = [row for row in outcome.rows if row["status"] == status]
        causes = Counter(str(row["reason"]).split(":")[0] for row in rows)
        lines += [f"  {status:<14} {count} x {cause}" for cause, count in causes.most_common()]
    lines += _failures(outcome)
    if outcome.seconds:
        speed = outcome.seconds / seconds
        lines.append(
            f"audio      {hours(outcome.seconds)} in {hours(seconds)}: {speed:.1f}x realtime"
        )
    lines += _remarks(outcome)
    return "\n".join(lines)


def _remarks(outcome: Outcome) -> Iterator[str]:
    """What went not quite as wished, of files that are there."""
    limited = sorted((float(row["limited_db"]), str(row["name"])) for row in outcome.rows
                     if row.get("limited_db"))  # fmt: skip
    if limited:
        yield f"peaks      lowered in {len(limited)} files, by {-limited[0][0]:.1f} dB at most"
        yield from _listed([name for _, name in limited])
    notes: dict[str, list[str]] = {}
    for row in outcome.rows:
        if row.get("note"):
            notes.setdefault(str(row["note"]), []).append(str(row["name"]))
    for note, names in notes.items():
        yield f"note       {len(names)} x {note}"
        yield from _listed(names)


def _listed(names: Sequence[str]) -> Iterator[str]:
    yield from (f"  {name}" for name in names[:_FEW])
    if len(names) > _FEW:
        yield f"  and {len(names) - _FEW} more: see {LEDGER}"


def _failures(outcome: Outcome) -> Iterator[str]:
    failed = [row for row in outcome.rows if row["status"] == "failed"]
    for row in failed[:_MOST]:
        yield f"  failed   {row['source']}: {row['reason']}"
        if row.get("hint"):
            yield f"           {row['hint']}"
    if len(failed) > _MOST:
        yield f"  failed   and {len(failed) - _MOST} more: see {LEDGER}"


def _reasons(plan: Plan) -> list[tuple[str, int]]:
    return Counter(done.reason for _, done in plan.other).most_common()


def _target(item: Planned, out: Store) -> str:
    return printable(out.join(item.target))
