"""Evaluating many cases: rows of files, means over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jatsr_model.metrics.bootstrap import Mean, bootstrap
from jatsr_model.metrics.measure import Extras, Row, measure, open_extras, resampled
from jatsr_model.metrics.names import METRICS
from jatsr_model.metrics.openl3 import Moments, OpenL3, frechet_distance
from jatsr_model.metrics.prepare import Prepared, prepare
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.sounds import Case
from shards.errors import EnvironmentFailure, JatsrError

Watcher = Callable[[Prepared, Row], object]


@dataclass(frozen=True)
class Pending:
    """A case that is not in memory yet.

    Attributes:
        name: of the case.
        load: gets it, by reading files or by asking a model.
    """

    name: str
    load: Callable[[], Case]


@dataclass(frozen=True)
class Report:
    """An evaluation.

    Attributes:
        settings: what was fixed.
        rows: in the order of their names.
        means: by candidate and metric.
        fd_openl3: by candidate, over all files; empty where the package is missing.
        unavailable: metrics whose packages are missing, and why.
    """

    settings: Settings
    rows: Sequence[Row]
    means: Mapping[str, Mapping[str, Mean]]
    fd_openl3: Mapping[str, float | None]
    unavailable: Mapping[str, str]

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of what was compared, in order of appearance."""
        return tuple(self.means)


@dataclass
class Evaluation:
    """Measures cases one after the other; one that fails becomes a row that says why.

    Attributes:
        settings: what is fixed.
        extras: metrics of packages that may be missing.
        watch: is told of every case that was measured, while it is in memory.
    """

    settings: Settings = field(default_factory=Settings)
    extras: Extras = field(default_factory=open_extras)
    watch: Watcher | None = None
    _rows: list[Row] = field(default_factory=list, init=False)
    _moments: dict[str, tuple[Moments, Moments]] = field(default_factory=dict, init=False)

    def run(self, cases: Iterable[Pending]) -> Iterator[Row]:
        """Measure cases.

        Yields:
            a row for each.

        Raises:
            EnvironmentFailure: the machine is at fault, not a file.
        """
        for pending in cases:
            yield self.add(pending)

    def add(self, pending: Pending) -> Row:
        """Measure a case.

        Raises:
            EnvironmentFailure: the machine is at fault, not a file.
        """
        try:
            row = self._measure(pending.load())
        except EnvironmentFailure:
            raise
        except JatsrError as error:
            row = Row(pending.name, problem=error.message)
        self._rows.append(row)
        return row

    def report(self) -> Report:
        """Of what has been measured so far; it does not depend on the order of the cases."""
        rows = sorted(self._rows, key=lambda row: row.name)
        return Report(
            self.settings,
            tuple(rows),
            means(rows, self.settings),
            {name: frechet_distance(*both) for name, both in self._moments.items()},
            self.extras.missing,
        )

    def _measure(self, case: Case) -> Row:
        prepared = prepare(case, self.settings)
        row = measure(case, prepared, self.settings, self.extras.visqol)
        if isinstance(self.extras.openl3, OpenL3):
            self._embed(prepared, self.extras.openl3)
        if self.watch is not None:
            self.watch(prepared, row)
        return row

    def _embed(self, prepared: Prepared, openl3: OpenL3) -> None:
        for name in prepared.candidates:
            both = self._moments.setdefault(name, (Moments(), Moments()))
            pair = prepared.pair(name, self.settings)
            for moments, wave in zip(both, pair, strict=True):
                moments.add(openl3.embed(resampled(wave, self.settings.rate)))


def means(rows: Sequence[Row], settings: Settings) -> dict[str, dict[str, Mean]]:
    """Means over files, by candidate and metric; metrics without any value are left out."""
    found: dict[str, dict[str, Mean]] = {}
    for candidate in dict.fromkeys(name for row in rows for name in row.values):
        measured = [row.values[candidate] for row in rows if candidate in row.values]
        found[candidate] = {}
        for metric in METRICS:
            values = [values.get(metric.key) for values in measured]
            numbers = np.array([math.nan if v is None else v for v in values], np.float64)
            mean = bootstrap(numbers, settings.seed, settings.resamples)
            if mean is not None:
                found[candidate][metric.key] = mean
    return found
