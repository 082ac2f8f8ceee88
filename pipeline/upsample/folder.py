"""OUT: one run at a time, outputs that appear whole, and nothing left of runs that were killed.

Outputs are made under ``.upsampling/new`` and moved to their names when the ledger has their row.
A row whose output is still there after a kill is thus a move that has to be made up for; all else
there is rubbish.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from pipeline.delivery import RUN, Staged
from pipeline.upsample.ledger import Ledger, is_done
from pipeline.upsample.names import Planned
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import file_lock, printable, temporary_stem
from shards.storage import FileStat, LocalStore, Store

NEW = "new"
_DOING = "upsampling into"


class Folder:
    """Where outputs go.

    Args:
        store: the folder, which need not exist.
        single: name of the only output, if it was named; empty for a folder with a ledger.
    """

    def __init__(self, store: Store, single: str = "") -> None:
        stem = f".{temporary_stem(single)}" if single else ""
        self.store, self._single = store, single
        self._lock, self._staging = f"{stem}.upsampling.lock", f"{stem}.upsampling"
        self.staged = Staged(store.child(self._staging), uuid.uuid4().hex)

    @property
    def is_leased(self) -> bool:
        """Whether a bucket holds a lease, of a run that lives or of one that was killed."""
        return not self.store.is_local and self.store.stat(self._lock) is not None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out.

        Raises:
            ConfigError: another run is at work here.
        """
        if not isinstance(self.store, LocalStore):
            with self.store.lock(self._lock, doing=_DOING, option="OUT"):
                yield
            return
        path = self.store.path / self._lock
        where = self.store.path / self._single
        with file_lock(path, where, doing=_DOING, name="OUT"):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def staging(self) -> Iterator[None]:
        """Have a place for outputs in the making; inside ``locked``."""
        self._sweep()
        if isinstance(self.staged.store, LocalStore):
            (self.staged.store.path / NEW).mkdir(parents=True)
            self.staged.store.write(RUN, self.staged.run.encode())  # workers know us by it
        try:
            yield
        finally:
            self._sweep()

    def _sweep(self) -> None:
        """Nobody else is at work here. Rows of the ledger may lie in the same folder."""
        self.staged.store.remove_tree(NEW)
        if isinstance(self.staged.store, LocalStore):
            self.staged.store.remove([RUN])
            with contextlib.suppress(OSError):  # not there, or somebody keeps things in it
                self.staged.store.path.rmdir()

    def recover(self, ledger: Ledger, planned: Sequence[Planned]) -> None:
        """Move what a killed run has entered in the ledger and not moved; inside ``locked``."""
        left = [name for name in self.staged.store.files(NEW) if not _is_partial(name)]
        known = {stem_of(item.name): item for item in planned} if left else {}
        for name in left:
            item = known.get(name.removeprefix(f"{NEW}/").partition("-")[0])
            row = {} if item is None else ledger.row(item.name)
            if item and is_done(row) and self.staged.store.sha256(name) == row["out_sha256"]:
                self.place(name, item.target)

    def place(self, staged: str, target: str) -> None:
        """Give a finished output its name.

        Raises:
            EnvironmentFailure: it cannot have it.
        """
        try:
            self._move(staged, target)
        except OSError as error:
            raise EnvironmentFailure(
                f"OUT {printable(self.store.join(target))}: cannot be written: "
                f"{error.strerror or error}",
                hint="name a folder that you may write to, on a disk with room; then run it again",
            ) from error

    def _move(self, staged: str, target: str) -> None:
        try:
            self.store.move({f"{self._staging}/{staged}": target})
        except OSError as error:
            if error.errno != errno.EXDEV or not isinstance(self.staged.store, LocalStore):
                raise
            self.store.put(self.staged.store.path / staged, target)  # a folder inside is a link

    def size(self, target: str) -> int | None:
        """Bytes of an output; None if there is none."""
        if isinstance(self.store, LocalStore):
            with contextlib.suppress(OSError):
                return (self.store.path / target).stat().st_size
            return None
        found = self._listing.get(target)
        return None if found is None else found.size

    def problem(self, target: str) -> str:
        """Why there can be no output of a name; empty if there can."""
        if isinstance(self.store, LocalStore):
            try:
                os.lstat(self.store.path / target)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    return f"OUT {printable(target)}: cannot be written: the name is too long"
        return ""

    def is_taken(self, target: str) -> bool:
        """Whether there is something of that name."""
        if isinstance(self.store, LocalStore):
            return os.path.exists(self.store.path / target)
        return target in self._listing

    def expect_free(self, target: str) -> None:
        """Make sure that an output does not replace anything.

        Raises:
            ConfigError: it would.
        """
        if self.is_taken(target):
            where = printable(self.store.join(target))
            raise ConfigError(f"OUT {where} exists already", hint="use --overwrite to replace it")

    @cached_property
    def _listing(self) -> Mapping[str, FileStat]:
        """What is in a bucket, asked for once."""
        if not self._single:
            return self.store.files()
        found = self.store.stat(self._single)
        return {} if found is None else {self._single: found}


def stem_of(name: str) -> str:
    """What an output in the making is named after: its name may be too long for one more letter."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _is_partial(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")
