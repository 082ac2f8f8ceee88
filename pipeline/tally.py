"""Counting how tracks end: the balance, the breaker, the report."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shards.errors import EnvironmentFailure, JatsrError

BREAKER = 20  # failures in a row


def cause_of(reason: str) -> str:
    """A reason without what differs from file to file, so that equal causes count as one.

    File names, numbers and parentheses go; ``x.wav: expected 5 frames, found 3 (0.1 s)`` becomes
    ``expected N frames, found N``.
    """
    text = reason.split("\n")[0]
    text = re.sub(r"^(duplicate of) .*", r"\1 another file", text)
    text = text[max(text.find("expected "), 0) :]
    text = re.sub(r"\([^()]*\)|\[[^\]]*\]|'[^']*'", "", text)
    text = re.sub(r"-?(\d+(\.\d+)?|inf)\b", "N", text)
    return " ".join(text.split())[:100].rstrip(" :;,(")


class TooManyFailed(JatsrError):
    """More tracks failed than the user allows; nothing is published."""


class Ended(Protocol):
    """How a track ended."""

    @property
    def key(self) -> str:
        """Which."""
        ...

    @property
    def status(self) -> str:
        """``failed`` or another one."""
        ...

    @property
    def reason(self) -> str:
        """Why it failed."""
        ...

    @property
    def hint(self) -> str:
        """What can be done about it."""
        ...


class Breaker:
    """Stops a run when too many tracks fail in a row: then the environment is broken.

    Args:
        limit: failures in a row.
        known: keys of tracks that failed in an earlier run; they do not count, so that running
            again always gets further.
    """

    def __init__(self, limit: int, known: Container[str]) -> None:
        self._limit = limit
        self._known = known
        self._row: list[Ended] = []

    def see(self, result: Ended) -> None:
        """Count a result.

        Raises:
            EnvironmentFailure: the limit is reached; names the most common cause.
        """
        if result.status != "failed":
            self._row = []
        elif result.key not in self._known:
            self._row.append(result)
        if len(self._row) < self._limit:
            return
        causes = Counter(cause_of(failure.reason) for failure in self._row)
        cause, count = causes.most_common(1)[0]
        example = next(f for f in self._row if cause_of(f.reason) == cause)
        raise EnvironmentFailure(
            f"{self._limit} tracks in a row failed, {count} of them with: {example.reason}",
            hint=f"{example.hint or 'run jatsr doctor'}. Then run the same command again: it "
            "continues. If these files really are bad, running it again gets past them",
        )


@dataclass
class Tally:
    """What a run did."""

    results: Counter[str] = field(default_factory=Counter)  # status -> files
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: float = 0.0  # audio built in this run
    resumed: int = 0  # tracks that were staged by an earlier run
    stages: Counter[str] = field(default_factory=Counter)  # stage -> seconds of work
    wall: float = 0.0  # seconds of the build stage in this run

    def add_stages(self, seconds: Mapping[str, float]) -> None:
        """Add work done per stage."""
        for stage, value in seconds.items():
            self.stages[stage] += value  # type: ignore[assignment]

    def count(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Count ledger rows."""
        for row in rows:
            status = str(row["status"])
            self.results[status] += 1
            if status != "ok":
                self.reasons[status][cause_of(str(row.get("reason") or ""))] += 1

    @property
    def failed_share(self) -> float:
        """Failed tracks among those that should have been built."""
        tried = self.results["ok"] + self.results["failed"]
        return self.results["failed"] / tried if tried else 0.0

    def expect_balance(self, files: int) -> None:
        """Every file found has exactly one row, or nothing is published."""
        counted = sum(self.results.values())
        if counted != files:
            raise AssertionError(f"the ledger has {counted} rows for {files} files")

    def expect_few_failed(self, max_failed: float, strict: bool) -> None:
        """Refuse to publish when too many tracks failed.

        Raises:
            TooManyFailed: with the share, the flag and the most common causes.
        """
        failed = self.results["failed"]
        if not failed or (not strict and self.failed_share <= max_failed):
            return
        flag = "--strict" if strict else f"--max-failed {max_failed:g}"
        causes = "\n".join(
            f"  {count} x {cause}" for cause, count in self.reasons["failed"].most_common(5)
        )
        raise TooManyFailed(
            f"{failed} of {self.results['ok'] + failed} tracks failed, more than {flag} allows; "
            f"nothing was published:\n{causes}",
            hint="mend or remove those files or allow more with --max-failed, then run the same "
            "command again: finished tracks are kept",
        )
