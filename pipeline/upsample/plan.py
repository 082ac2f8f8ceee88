"""What there is to do, before any file is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jatsr_model.audio.decode import open_audio
from pipeline.upsample.folder import Folder
from pipeline.upsample.ledger import Ledger, has_dates, is_done
from pipeline.upsample.names import Planned
from pipeline.upsample.session import Done
from shards.errors import TrackError
from shards.storage import is_url

_URL_BYTES_PER_SECOND = 24_000.0  # 192 kbit/s: what an object's header says is not asked for


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        todo: files to be upsampled.
        done: files that an earlier run has done.
        other: files that are no audio, cannot be read, or have no place to go.
        seconds: of audio in ``todo``, as far as headers tell.
    """

    todo: tuple[Planned, ...]
    done: tuple[Planned, ...]
    other: tuple[tuple[Planned, Done], ...]
    seconds: float


class Work:
    """The files of a run, as folder and ledger know them.

    Args:
        files: what and where to.
        folder: of the outputs.
        ledger: of the folder; None where a single output was named, which leaves no trace.
        settings: a hash of all that decides what comes out.
        overwrite: do everything, also what is done and what is there and not in the ledger.
    """

    def __init__(
        self,
        files: Sequence[Planned],
        folder: Folder,
        ledger: Ledger | None,
        settings: str,
        *,
        overwrite: bool,
    ) -> None:
        self.files, self.folder, self.ledger, self.settings = files, folder, ledger, settings
        self._overwrite = overwrite

    def plan(self) -> Plan:
        """Look at every file, without reading it."""
        settled = [(item, self._settled(item)) for item in self.files]
        other = [(item, done) for item, done in settled if done is not None]
        open_ = [item for item, done in settled if done is None]
        done = {item.name for item in open_ if self._is_done(item)}
        todo = [item for item in open_ if item.name not in done]
        return Plan(
            tuple(todo),
            tuple(item for item in open_ if item.name in done),
            tuple(other),
            sum(map(_header_seconds, todo)),
        )

    def _settled(self, item: Planned) -> Done | None:
        """What can be said of a file before it is read; None if it has to be."""
        if item.skipped:
            return Done(key=item.name, status="skipped", reason=item.skipped)
        if item.problem:
            return Done(key=item.name, status="failed", reason=item.problem)
        if problem := self.folder.problem(item.target):
            hint = "give the input a shorter name"
            return Done(key=item.name, status="failed", reason=problem, hint=hint)
        ours = self.ledger is not None and self.ledger.owns(item.name)
        if self._overwrite or ours or not self.folder.is_taken(item.target):
            return None
        reason = "its output exists already and is not in the ledger"
        hint = "remove that, choose another OUT, or use --overwrite"
        return Done(key=item.name, status="failed", reason=reason, hint=hint)

    def _is_done(self, item: Planned) -> bool:
        """Whether the output is there, of the file as it is by its date."""
        return has_dates(self.row(item), item) and self.is_current(item)

    def is_current(self, item: Planned) -> bool:
        """Whether the output is there, by these settings."""
        row = self.row(item)
        known = is_done(row) and row.get("settings") == self.settings and not self._overwrite
        return known and self.folder.size(item.target) == row["out_bytes"]

    def row(self, item: Planned) -> dict[str, Any]:
        """What the ledger says of an output; empty if nothing."""
        return {} if self.ledger is None else dict(self.ledger.row(item.name))


def _header_seconds(item: Planned) -> float:
    """What the header promises; 0 where it cannot be read, which the run will report."""
    if is_url(item.source):
        return item.size / _URL_BYTES_PER_SECOND
    try:
        with open_audio(Path(item.source)) as audio:
            return (audio.format.header_frames or 0) / audio.format.rate
    except (TrackError, OSError):
        return 0.0
