"""The loop: read, step, log, validate, save."""

from __future__ import annotations

from dataclasses import dataclass

from jatsr_model.dit import DiT
from jatsr_model.training.agreement import Agreement
from jatsr_model.training.data import Batches
from jatsr_model.training.interrupt import Interrupt
from jatsr_model.training.journal import Journal, loss_tag
from jatsr_model.training.meter import Meter
from jatsr_model.training.rehearsal import Rehearsal
from jatsr_model.training.saving import Saving
from jatsr_model.training.settings import Recipe, Runtime
from jatsr_model.training.standing import Standing
from jatsr_model.training.step import Stepper
from jatsr_model.training.validation import Validation
from jatsr_model.training.watch import Watch
from jatsr_model.training.world import World


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains until the recipe's last step, or until it is asked to stop.

    Args:
        network: bare, on the device.
        stepper: takes steps.
        batches: what is trained on.
        validation: judges the average of weights; None without.
        rehearsal: samples audio; None without.
        saving: of checkpoints.
        journal: log and bar; of the main rank, None on others.
        standing: where it begins; kept up to date.
        recipe: of the training.
        runtime: how it runs.
        audio_seconds: of a step, all ranks together.
        world: of ranks.
        interrupt: says that it should stop.
        watch: for gradients that are not finite.
    """

    network: DiT
    stepper: Stepper
    batches: Batches
    validation: Validation | None
    rehearsal: Rehearsal | None
    saving: Saving
    journal: Journal | None
    standing: Standing
    recipe: Recipe
    runtime: Runtime
    audio_seconds: float
    world: World
    interrupt: Interrupt
    watch: Watch

    def run(self) -> bool:
        """Train.

        Returns:
            whether the last step was reached. If not, everything was saved.

        Raises:
            Diverged: gradients are not finite any more.
            EnvironmentFailure: the disk is full, or there is not enough memory.
        """
        standing, meter = self.standing, Meter(self.world, self.audio_seconds)
        agreement = Agreement(self.world)
        batches = iter(self.batches)
        self.network.train()
        while True:
            # one rank's interrupt stops all at the same step, and nobody waits for what they say
            stop = agreement.get() or (self.world.size == 1 and bool(self.interrupt))
            agreement.put(bool(self.interrupt))
            with meter.paused():
                self._between(stop=stop)
            if stop or standing.step >= self.recipe.steps:
                return not stop
            batch = meter.next(batches)
            outcome = self.stepper(standing.step, batch)
            meter.add(outcome)
            self.watch.look(standing.step, outcome.finite, batch)
            standing.step += 1
            if self._every(self.runtime.log_every):
                self._log(meter)

    def close(self) -> None:
        """End the processes that read, and write what is left of the log."""
        self.batches.close()
        if self.journal is not None:
            self.journal.close()

    def _between(self, *, stop: bool) -> None:
        """What is due between two steps."""
        standing, runtime = self.standing, self.runtime
        if not stop and self.validation and self._due(standing.validated, runtime.val_every):
            self._validate(self.validation)
        if not stop and self.rehearsal and self._due(standing.sampled, runtime.sample_every):
            self._sample(self.rehearsal)
        best = standing.best_step == standing.step
        due = standing.step > 0 and (best or self._every(runtime.save_every))
        if (stop or due) and self.saving.saved != standing.step:
            self._save()

    def _due(self, last: int, steps: int) -> bool:
        return last != self.standing.step and self._every(steps)

    def _every(self, steps: int) -> bool:
        """Whether it is time for what is done every so many steps, and after the last one."""
        if steps == 0:
            return False
        return self.standing.step % steps == 0 or self.standing.step == self.recipe.steps

    def _log(self, meter: Meter) -> None:
        found = meter.read()  # of all ranks, so each has to ask
        if self.journal is None:
            return
        step = self.standing.step
        values = {
            "Loss/Total": found.pop("loss"),
            "LR": self.stepper.rate(step - 1),
            "GradNorm": found.pop("norm"),
            "LeftOut": found.pop("left_out"),
            "Throughput/steps_per_second": 1 / found.pop("seconds"),
            "Throughput/audio_hours_per_hour": found.pop("audio_hours_per_hour"),
            "DataWait": found.pop("data_wait"),
        }
        values |= {loss_tag(name): value for name, value in found.items()}
        self.journal.log(step, values)
        self.journal.progress(step, values["Loss/Total"], values["Throughput/audio_hours_per_hour"])

    def _validate(self, validation: Validation) -> None:
        """Judge the average of weights."""
        standing = self.standing
        with self.stepper.ema.swapped():
            found = validation(self.network)
        if len(self.stepper.objective.losses.chosen) > 1:
            found |= validation.pulls(self.network)
        self.network.train()
        standing.validated = standing.step
        if standing.step and found["Val/Loss"] < standing.best:  # NaN is not
            standing.best, standing.best_step = found["Val/Loss"], standing.step
        if self.journal is not None:
            self.journal.log(standing.step, found)

    def _sample(self, rehearsal: Rehearsal) -> None:
        """Let the average of weights make audio."""
        with self.stepper.ema.swapped():
            found = rehearsal(self.network)
        self.network.train()
        self.standing.sampled = self.standing.step
        self.standing.sample_error = found.values["Val/SampleError"]
        if self.journal is None:
            return
        self.journal.log(self.standing.step, found.values)
        for tag, wave in found.waves.items():
            self.journal.audio(self.standing.step, tag, wave, rehearsal.decoder.sample_rate)

    def _save(self) -> None:
        self.watch.flush()
        self.standing.left_out, self.standing.in_row = self.watch.left_out, self.watch.in_row
        self.saving(self.standing, self.batches.state_dict())
