"""A model on trial: the upper band of known music is taken away, and given back by the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from jatsr_model.metrics.evaluation import Evaluation, Pending, Report, Watcher
from jatsr_model.metrics.measure import Extras
from jatsr_model.metrics.music import Music
from jatsr_model.metrics.settings import Settings
from jatsr_model.metrics.sounds import Case
from jatsr_model.metrics.subjects import Subject, prepare
from jatsr_model.upsampling.model import Model
from jatsr_model.upsampling.render import Renderer
from jatsr_model.upsampling.rendering import Job, Result
from shards.errors import TrackError
from shards.files import machine_errors, printable, sha256_file

_RELIEF = "fewer --clip-seconds"


@dataclass(frozen=True, kw_only=True)
class _Trial(Job):
    """What the renderer is asked for, with what it is about.

    Attributes:
        subject: the file.
        rate: Hz, of the low-res version.
        left: rates at which the file is still to be measured.
    """

    subject: Subject
    rate: int
    left: set[int]


@dataclass
class Trials:
    """Measures what a model makes of low-res versions of files.

    Candidates are ``input`` (the low-res version, brought back to the rate of the comparison),
    ``codec`` (the reference through the codec of the model) and ``model``. What is random depends
    on seed, rate and samples of a clip: neither on other files nor on their order.

    Attributes:
        renderer: that of ``jatsr upsample``; writes float WAV at the rate of the settings.
        model: the one that it has; None: there is no codec to measure.
        settings: of the measurements.
        rates: Hz, of the low-res versions.
        extras: metrics of packages that may be missing.
        watcher: who watches the measurements at a rate.
    """

    renderer: Renderer
    model: Model | None
    settings: Settings
    rates: Sequence[int]
    extras: Extras
    watcher: Callable[[int], Watcher | None] = lambda _: None
    _evaluations: dict[int, Evaluation] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is measured yet."""
        self._evaluations = {
            rate: Evaluation(self.settings, self.extras, self.watcher(rate)) for rate in self.rates
        }

    def run(
        self, files: Sequence[Music], scratch: Path, advance: Callable[[], object] = lambda: None
    ) -> None:
        """Try files; one that fails becomes rows that say why.

        Args:
            files: whose upper band is there.
            scratch: folder for the signals of those that the renderer has at work.
            advance: called for every file and rate that is done.

        Raises:
            EnvironmentFailure: the machine is at fault, not a file.
        """
        jobs = self._jobs(files, scratch, advance)
        with closing(self.renderer.run(jobs)) as results:
            for job, result in results:
                assert isinstance(job, _Trial)
                self._measure(job, result)
                advance()

    def reports(self) -> dict[int, Report]:
        """Of what was measured so far, by rate."""
        return {rate: evaluation.report() for rate, evaluation in self._evaluations.items()}

    def _jobs(
        self, files: Sequence[Music], scratch: Path, advance: Callable[[], object]
    ) -> Iterator[_Trial]:
        for number, music in enumerate(files):
            try:
                subject = self._prepared(music, scratch / f"{number}")
            except TrackError as error:
                for rate in self.rates:
                    self._evaluations[rate].add(Pending(music.name, _failing(error)))
                    advance()
                continue
            left = set(self.rates)
            for rate in self.rates:
                low, made = subject.low(rate), subject.made(rate)
                yield _Trial(
                    source=low, target=made, digest=sha256_file(low),
                    subject=subject, rate=rate, left=left,
                )  # fmt: skip

    def _prepared(self, music: Music, folder: Path) -> Subject:
        with machine_errors(f"preparing {printable(str(music.path))}", relief=_RELIEF):
            return prepare(music, folder, self.settings, self.rates, self.model)

    def _measure(self, trial: _Trial, result: Result) -> None:
        subject, rate = trial.subject, trial.rate
        with machine_errors(f"measuring {subject.name}", relief=_RELIEF):
            pending = Pending(subject.name, lambda: subject.case(rate, result))
            self._evaluations[rate].add(pending)
            trial.source.unlink()
            trial.target.unlink(missing_ok=True)
            trial.left.remove(rate)
            if not trial.left:
                shutil.rmtree(subject.folder)


def _failing(error: TrackError) -> Callable[[], Case]:
    def load() -> Case:
        raise error

    return load
