"""The trials of a model as a table, as JSON and as CSV."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jatsr_model.metrics.bootstrap import Mean
from jatsr_model.metrics.evaluation import Report
from jatsr_model.metrics.measure import Row
from jatsr_model.metrics.names import IN_TABLE, METRICS, Metric
from jatsr_model.metrics.report import (
    aligned,
    csv_text,
    interval,
    mean_facts,
    number,
    row_facts,
)
from jatsr_model.metrics.subjects import KEPT

_MOST_NOTES = 20


@dataclass(frozen=True)
class TrialReport:
    """All rates.

    Attributes:
        reports: by rate of the low-res version, in Hz; of the same files each.
        setup: beside the settings of the measurements: model and sampling, JSON-ready.
    """

    reports: Mapping[int, Report]
    setup: Mapping[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        settings = next(iter(self.reports.values())).settings.facts
        return {**settings, "cutoff": f"{KEPT:.0%} of half of each rate", **self.setup}

    @property
    def rows(self) -> list[tuple[int, Row]]:
        """With their rates, file by file."""
        per_rate = ([(rate, row) for row in found.rows] for rate, found in self.reports.items())
        return [pair for file in zip(*per_rate, strict=True) for pair in file]

    @property
    def has_failed(self) -> bool:
        """Whether something could not be measured."""
        return any(row.problem for _, row in self.rows)


def as_json(trials: TrialReport) -> dict[str, Any]:
    """For scripts; metrics that cannot be had are null."""
    return {
        "settings": trials.facts,
        "rates": [
            {"rate": rate, "cutoff_hz": KEPT * rate / 2, **mean_facts(report)}
            for rate, report in trials.reports.items()
        ],
        "files": [{"rate": rate, **row_facts(row)} for rate, row in trials.rows],
        "unavailable": dict(next(iter(trials.reports.values())).unavailable),
    }


def as_csv(trials: TrialReport) -> str:
    """For spreadsheets: one line for every file, rate and candidate."""
    rates, rows = [rate for rate, _ in trials.rows], [row for _, row in trials.rows]
    return csv_text(rows, trials.facts, rates)


def as_text(trials: TrialReport) -> str:
    """For people: the settings, means by rate and candidate, and what is to be said of files."""
    report = next(iter(trials.reports.values()))
    lines = [report.settings.text, *_setup(trials), "", *_means(trials, with_intervals=True)]
    lines += ["", *_means(trials, with_intervals=False), "", *_remarks(trials)]
    lines += [f"{name}: {reason}" for name, reason in report.unavailable.items()]
    failed = {row.name for _, row in trials.rows if row.problem}
    lines.append(f"{len(report.rows) - len(failed)} of {len(report.rows)} files compared")
    return "\n".join(lines)


def _setup(trials: TrialReport) -> Iterator[str]:
    """What made the signals, and of what."""
    shown = {name: value for name, value in trials.setup.items() if value is not None}
    if "weights_sha256" in shown:
        shown["weights_sha256"] = shown["weights_sha256"][:12]
    yield ", ".join(f"{name} {value}" for name, value in shown.items())
    report = next(iter(trials.reports.values()))
    codings = Counter(str(row.sounds["source"]["coding"]) for row in report.rows if row.sounds)
    listed = ", ".join(f"{count} {coding}" for coding, count in codings.most_common())
    if listed:
        yield f"references {listed}; low-res versions are float WAV files by soxr VHQ"


def _means(trials: TrialReport, *, with_intervals: bool) -> Iterator[str]:
    """The main metrics, or the others; the interval is that of the first."""
    found = [
        (rate, name, report.means[name], report.fd_openl3.get(name))
        for rate, report in trials.reports.items()
        for name in report.candidates
    ]
    known = {key for _, _, means, _ in found for key in means}
    metrics = [m for m in METRICS if m.key in known and (m.key in IN_TABLE) == with_intervals]
    distances = not with_intervals and any(distance is not None for *_, distance in found)
    titles = [metric.short for metric in metrics]
    if with_intervals and titles:
        titles[0] += " [95 %]"
    table = [["rate Hz", "", *titles, *(["FD-OpenL3"] if distances else [])]]
    for rate, name, means, distance in found:
        cells = [_cell(means.get(metric.key), metric) for metric in metrics]
        if with_intervals and cells:
            cells[0] = interval(means.get(metrics[0].key), metrics[0])
        cells += [_distance(distance)] if distances else []
        table.append([f"{rate}", name, *cells])
    yield from aligned(table, left=2)


def _cell(mean: Mean | None, metric: Metric) -> str:
    return number(None if mean is None else mean.mean, metric)


def _distance(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _remarks(trials: TrialReport) -> Iterator[str]:
    """What failed, then notes, each once with its rates."""
    failures: dict[str, list[int]] = defaultdict(list)
    notes: dict[str, list[int]] = defaultdict(list)
    for rate, row in trials.rows:
        if row.problem:
            failures[f"{row.name}: FAILED: {row.problem}"].append(rate)
        for note in row.notes:
            notes[f"{row.name}: {note}"].append(rate)
    lines = [_at_rates(text, rates, trials) for text, rates in notes.items()]
    yield from (_at_rates(text, rates, trials) for text, rates in failures.items())
    yield from lines[:_MOST_NOTES]
    if len(lines) > _MOST_NOTES:
        yield f"... and {len(lines) - _MOST_NOTES} more notes (--json lists all)"


def _at_rates(text: str, rates: list[int], trials: TrialReport) -> str:
    if len(rates) == len(trials.reports):
        return text
    return f"{text} (at {', '.join(map(str, rates))} Hz)"
