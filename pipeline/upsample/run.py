"""One run of ``jatsr upsample``, from looking for files to the last row of the ledger."""

from __future__ import annotations

import os

from pipeline.engines.base import Progress
from pipeline.upsample.asked import Asked
from pipeline.upsample.batch import Batch, Outcome, Ui
from pipeline.upsample.engine import Crew
from pipeline.upsample.folder import Folder
from pipeline.upsample.ledger import Ledger
from pipeline.upsample.names import name_one, name_outputs
from pipeline.upsample.plan import Plan, Work
from pipeline.upsample.session import UpsampleSession
from pipeline.upsample.sources import find_files
from pipeline.upsample.upsampler import Upsampler
from shards.errors import ConfigError
from shards.files import machine_errors
from shards.storage import LocalStore, open_store


class Run:
    """What was asked for, by those who can do it.

    Args:
        asked: for.
        crew: does it.
        ui: told of progress and of every failure.
    """

    def __init__(self, asked: Asked, crew: Crew, ui: Ui) -> None:
        self._asked, self._crew, self._ui = asked, crew, ui
        self.folder = Folder(asked.out, asked.single)

    def plan(self) -> Plan:
        """Look at every file and write nothing.

        Raises:
            ConfigError: what ``run`` would refuse.
        """
        return self._work().plan()

    def run(self) -> Outcome:
        """Upsample what is not done yet.

        Raises:
            ConfigError: options or folders that cannot work, or another run is at work in OUT.
            EnvironmentFailure: the machine failed; run again to go on.
        """
        if self.folder.is_leased:
            self._ui.note(
                "another run was at work here: it may take a minute to see if it still is"
            )
        action = f"writing to {self._asked.out.url}"
        with machine_errors(action, relief="fewer --workers"), self.folder.locked():
            work = self._work(recover=True)
            plan = work.plan()
            engine = self._crew.engine(len(plan.todo), self._hear)
            with self.folder.staging():
                batch = Batch(work, engine, self._session(), self._ui)
                return batch.run(plan, self._asked.limit)

    def _hear(self, progress: Progress) -> None:
        self._ui.advance(progress.audio_seconds)

    def _work(self, *, recover: bool = False) -> Work:
        """Files and ledger."""
        asked, folder = self._asked, self.folder
        if asked.single:
            (found,) = find_files(asked.inputs, folder.staged.store)
            if not asked.overwrite:
                folder.expect_free(asked.single)
            one = name_one(found, asked.out, asked.single)
            return Work([one], folder, None, "", overwrite=True)
        ledger = Ledger(asked.out)
        found_files = find_files(asked.inputs, asked.out, ledger.has_done)
        if not found_files:
            shown = " ".join(open_store(text).url for text in asked.inputs)
            raise ConfigError(f"IN {shown}: expected files, found none")
        files = name_outputs(found_files, asked.out, asked.ending, ledger)
        if recover:
            folder.recover(ledger, files)
        digest = asked.digest(self._crew.device)
        return Work(files, folder, ledger, digest, overwrite=asked.overwrite)

    def _session(self) -> UpsampleSession:
        asked = self._asked
        stores = [open_store(text) for text in asked.inputs]
        files = [("IN", str(store.path)) for store in stores if isinstance(store, LocalStore)]
        if asked.model is not None:
            files.append(("--model", os.fspath(asked.model)))
        return UpsampleSession(
            upsampler=Upsampler(
                model=asked.model,
                weights=asked.weights,
                device=self._crew.device,
                codec_weights=asked.codec_weights,
                settings=asked.settings_on(self._crew.device),
                form=asked.form,
                text_encoder=asked.text_encoder,
            ),
            staged=self.folder.staged,
            ending=asked.ending,
            files=tuple(files),
        )
