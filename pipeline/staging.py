"""``DEST/.jatsr``: where an unfinished build keeps what it has done.

One folder per fingerprint, so that what was made with other options is never mixed in:

    .jatsr/lock                       held while a build runs
    .jatsr/<fingerprint>/config.json  the options
    .jatsr/<fingerprint>/run          which run writes here
    .jatsr/<fingerprint>/files.json   what the files are, so that they are read once
    .jatsr/<fingerprint>/parts/       finished tracks
    .jatsr/<fingerprint>/scratch/     temporary files, on a local disk only
    .jatsr/<fingerprint>/<split>/     assembled shards, until they are published
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.captions import Tags
from pipeline.delivery import RUN, Staged
from pipeline.fingerprint import expect_same
from pipeline.identify import Known, Scanned
from pipeline.parts import PartStore
from pipeline.scan import Found
from shards.errors import ConfigError, EnvironmentFailure
from shards.files import canonical_json, pretty_json
from shards.layout import MANIFEST, STAGING
from shards.manifest import read_manifest
from shards.storage import LocalStore, Store

_LOCK = f"{STAGING}/lock"
_CONFIG, _FILES = "config.json", "files.json"
_OURS = {MANIFEST, STAGING}


class Staging:
    """The staging folder of one configuration.

    Args:
        dest: the dataset.
        fingerprint: of the configuration.
        config: all that influences bytes.
    """

    def __init__(self, dest: Store, fingerprint: str, config: Mapping[str, Any]) -> None:
        self._dest = dest
        self._config = config
        self.name = f"{STAGING}/{fingerprint[:16]}"
        self.staged = Staged(dest.child(self.name), uuid.uuid4().hex)
        self._store = self.staged.store
        self._open = False

    @property
    def parts(self) -> PartStore:
        """The finished tracks."""
        return self.staged.parts()

    @property
    def path(self) -> Path | None:
        """The folder, if it is on a disk of this machine."""
        return self._store.path if isinstance(self._store, LocalStore) else None

    def lock(self) -> AbstractContextManager[None]:
        """Be the only build that writes to the destination."""
        return self._dest.lock(_LOCK)

    @property
    def is_leased(self) -> bool:
        """Whether a bucket holds a lease, of a process that lives or of one that was killed."""
        return not self._dest.is_local and self._dest.stat(_LOCK) is not None

    def check(self, *, rebuild: bool) -> None:
        """Refuse a destination that cannot be built into; nothing is written.

        Raises:
            ConfigError: a file, a folder with other content, or a dataset or the finished tracks
                of a build with other options.
        """
        dest = self._dest
        if isinstance(dest, LocalStore) and dest.path.exists() and not dest.path.is_dir():
            raise ConfigError(f"DEST {dest.url}: expected a folder, found a file")
        names = set(dest.entries())
        if names and not names & _OURS:
            raise ConfigError(
                f"DEST {dest.url}: expected a new or empty folder or a dataset, found other files",
                hint="choose another DEST; jatsr build SOURCE... DEST takes the destination last",
            )
        if MANIFEST in names and not rebuild:
            expect_same(read_manifest(dest).config, self._config, dest.url)
        for other in () if rebuild else self._others():
            if any(name.endswith(".json") for name in dest.files(f"{other}/parts")):
                expect_same(self._config_of(other), self._config, dest.url)

    def open(self) -> None:
        """Create the folder; remove those of other options and what a killed build left over."""
        for other in self._others():
            self._dest.remove_tree(other)
        if self.path is not None:
            scratch = self.path / "scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            for folder in (self.path / "parts", scratch):
                folder.mkdir(parents=True, exist_ok=True)
            for litter in (self.path / "parts").glob("*/.*.tmp"):
                litter.unlink()
        self._store.write(_CONFIG, pretty_json(self._config))
        self._store.write(RUN, self.staged.run.encode())
        self._open = True

    def expect_ours(self) -> None:
        """Make sure, before anything is published, that no other run has taken over.

        Raises:
            EnvironmentFailure: one has; a lease in a bucket can be lost by a machine that sleeps.
        """
        if not self.staged.is_ours:
            raise EnvironmentFailure(
                f"{self._dest.url}: another process took over while this one was out of reach",
                hint="let only one process build here; run the same command again to check the "
                "result",
            )

    def close(self) -> None:
        """Remove everything: the dataset is published."""
        self._dest.remove_tree(STAGING if self._dest.is_local else self.name)

    def known_files(self) -> Known:
        """Files that an interrupted run of this build has hashed already."""
        try:
            rows = json.loads(self._store.read(_FILES))
            scanned = [
                Scanned(Found(path, "", size, mtime), kind, what, track, seconds, Tags(**tags))
                for path, size, mtime, kind, what, track, seconds, tags in rows
            ]
        except (OSError, ValueError, TypeError):
            return {}  # absent, torn, or of another release
        return {(item.found.path, item.found.size, item.found.mtime_ns): item for item in scanned}

    def remember_files(self, scanned: Iterable[Scanned]) -> None:
        """Keep what files are, so that a resumed build does not read them all again."""
        if not self._open:
            return
        rows = [
            [
                *(item.found.path, item.found.size, item.found.mtime_ns, item.kind, item.what),
                *(item.track, item.seconds, item.tags.as_dict()),
            ]
            for item in scanned
            if item.track and item.found.name == item.found.path
        ]
        self._store.write(_FILES, canonical_json(rows), durable=False)

    def _others(self) -> Iterator[str]:
        for name in self._dest.child(STAGING).entries():
            other = f"{STAGING}/{name}"
            if other != self.name and name != "lock":
                yield other

    def _config_of(self, staging: str) -> Mapping[str, Any]:
        try:
            config: Mapping[str, Any] = json.loads(self._dest.read(f"{staging}/{_CONFIG}"))
        except (OSError, ValueError):
            return {}
        return config
