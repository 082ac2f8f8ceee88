"""An evaluation as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jatsr_model.metrics.bootstrap import Mean
from jatsr_model.metrics.evaluation import Report
from jatsr_model.metrics.measure import Row
from jatsr_model.metrics.names import BY_KEY, IN_TABLE, METRICS, Metric

_NONE = "-"


def as_json(report: Report, missing: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """For scripts; metrics that cannot be had are null.

    Args:
        report: of the evaluation.
        missing: files without a partner.
    """
    return {
        "settings": report.settings.facts,
        "files": [row_facts(row) for row in report.rows],
        **mean_facts(report),
        "unavailable": dict(report.unavailable),
        "missing": list(missing),
    }


def row_facts(row: Row) -> dict[str, Any]:
    """A file, for JSON."""
    return {
        "name": row.name,
        "cutoff_hz": row.cutoff,
        "sounds": dict(row.sounds),
        "metrics": {name: dict(values) for name, values in row.values.items()},
        "notes": list(row.notes),
        "problem": row.problem or None,
    }


def mean_facts(report: Report) -> dict[str, Any]:
    """What there is of all files together, for JSON."""
    return {
        "means": {
            name: {key: mean._asdict() for key, mean in values.items()}
            for name, values in report.means.items()
        },
        "fd_openl3": dict(report.fd_openl3),
    }


def as_csv(report: Report) -> str:
    """For spreadsheets: one line for every file and candidate."""
    return csv_text(report.rows, report.settings.facts)


def csv_text(
    rows: Sequence[Row], settings: Mapping[str, Any], rates: Sequence[int] | None = None
) -> str:
    """One line for every file and candidate, with the settings in the last column.

    Args:
        rows: in this order.
        settings: as in JSON.
        rates: Hz, of the low-res version of every row; None: without such a column.
    """
    facts = json.dumps(settings)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [metric.key for metric in METRICS]
    names = ["name"] if rates is None else ["name", "rate"]
    writer.writerow([*names, "candidate", "cutoff_hz", *keys, "notes", "problem", "settings"])
    for place, row in enumerate(rows):
        first = [row.name] if rates is None else [row.name, rates[place]]
        for candidate, values in (row.values or {"": {}}).items():
            numbers = ["" if (v := values.get(key)) is None else repr(v) for key in keys]
            cutoff = "" if row.cutoff is None else repr(row.cutoff)
            notes = "; ".join(row.notes)
            writer.writerow([*first, candidate, cutoff, *numbers, notes, row.problem, facts])
    return text.getvalue()


def as_text(report: Report) -> str:
    """For people: the settings, every file, and the means."""
    lines = [report.settings.text, "", *_files(report), "", *_means(report)]
    lines += [f"{name}: {reason}" for name, reason in report.unavailable.items()]
    if report.means and all(row.cutoff is None for row in report.rows):
        titles = ", ".join(metric.title for metric in METRICS if metric.needs_cutoff)
        lines.append(f"without a cutoff (give --low or --cutoff) there is no {titles}")
    failed = sum(bool(row.problem) for row in report.rows)
    lines.append(f"{len(report.rows) - failed} of {len(report.rows)} files compared")
    return "\n".join(lines)


def _files(report: Report) -> Iterator[str]:
    header = ["file", "", "cutoff Hz", *(BY_KEY[key].title for key in IN_TABLE)]
    table = [header]
    for row in report.rows:
        for place, (candidate, values) in enumerate(row.values.items()):
            cutoff = _NONE if row.cutoff is None else f"{row.cutoff:.0f}"
            numbers = [number(values.get(key), BY_KEY[key]) for key in IN_TABLE]
            first = [row.name, candidate, cutoff] if place == 0 else ["", candidate, ""]
            table.append([*first, *numbers])
    if len(table) > 1:
        yield from aligned(table, left=2)
    for row in report.rows:
        yield from _remarks(row)


def _remarks(row: Row) -> Iterator[str]:
    if row.problem:
        yield f"{row.name}: FAILED: {row.problem}"
    for note in row.notes:
        yield f"{row.name}: {note}"


def _means(report: Report) -> Iterator[str]:
    if not report.means:
        return
    table = [["mean over files [95 %]", "better", *report.candidates]]
    for metric in METRICS:
        found = [report.means[name].get(metric.key) for name in report.candidates]
        if any(found):
            numbers = [interval(mean, metric) for mean in found]
            table.append([metric.title, metric.better, *numbers])
    if report.fd_openl3:
        distances = [report.fd_openl3.get(name) for name in report.candidates]
        title = "FD-OpenL3, all files"
        table.append([title, "lower", *(_NONE if d is None else f"{d:.2f}" for d in distances)])
    yield from aligned(table, left=2)


def interval(mean: Mean | None, metric: Metric) -> str:
    """A mean with its interval, where it has one."""
    if mean is None:
        return _NONE
    text = number(mean.mean, metric)
    if mean.low is None:
        return text
    return f"{text} [{number(mean.low, metric)}, {number(mean.high, metric)}]"


def number(value: float | None, metric: Metric) -> str:
    """A value with the digits of its metric."""
    return _NONE if value is None else f"{value:.{metric.digits}f}"


def aligned(rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """Rows of a table as lines; the first ``left`` columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            text.ljust(width) if place < left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
