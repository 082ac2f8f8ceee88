"""``DEST/.jatsr``: where an unfinished build keeps what it has done.

One folder per fingerprint, so that what was made with other options is never mixed in:

    .jatsr/lock                       held while a build runs
    .jatsr/<fingerprint>/config.json  the options
    .jatsr/<fingerprint>/files.json   ids of the files that were hashed
    .jatsr/<fingerprint>/parts/       finished tracks
    .jatsr/<fingerprint>/scratch/     temporary files of lossy low-res variants
    .jatsr/<fingerprint>/<split>/     assembled shards, until they are published
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.fingerprint import expect_same
from pipeline.parts import PartStore
from pipeline.scan import Known, Scanned
from shards.errors import ConfigError
from shards.layout import MANIFEST, STAGING
from shards.manifest import read_manifest
from shards.storage import canonical_json, pretty_json, printable, write_atomically


class Staging:
    """The staging folder of one configuration.

    Args:
        dest: the dataset's folder.
        fingerprint: of the configuration.
        config: all that influences bytes.
    """

    def __init__(self, dest: Path, fingerprint: str, config: Mapping[str, Any]) -> None:
        self._dest = dest
        self._config = config
        self.root = dest / STAGING
        self.path = self.root / fingerprint[:16]
        self.parts = self.path / "parts"
        self.scratch = self.path / "scratch"

    @property
    def store(self) -> PartStore:
        """The finished tracks."""
        return PartStore(self.parts)

    def check(self, *, rebuild: bool) -> None:
        """Refuse a destination that cannot be built into; nothing is written.

        Raises:
            ConfigError: a file, a folder with other content, or a dataset or the finished tracks
                of a build with other options.
        """
        dest = self._dest
        if dest.exists() and not dest.is_dir():
            raise ConfigError(f"DEST {dest}: expected a folder, found a file")
        if not dest.exists():
            return
        ours = (dest / MANIFEST).exists() or self.root.exists()
        if not ours and any(dest.iterdir()):
            raise ConfigError(
                f"DEST {dest}: expected a new or empty folder or a dataset, found other files",
                hint="choose another DEST; jatsr build SOURCE... DEST takes the destination last",
            )
        if (dest / MANIFEST).exists() and not rebuild:
            expect_same(read_manifest(dest).config, self._config, dest)
        for other in self._others():
            if not rebuild and any((other / "parts").glob("*/*.json")):
                expect_same(_config_of(other), self._config, dest)

    def open(self) -> None:
        """Create the folder; remove those of other options and what a killed build left over."""
        for other in self._others():
            shutil.rmtree(other)
        shutil.rmtree(self.scratch, ignore_errors=True)
        for folder in (self.parts, self.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        for litter in self.parts.glob("*/.*.tmp"):
            litter.unlink()
        write_atomically(self.path / "config.json", pretty_json(self._config))

    def close(self) -> None:
        """Remove everything: the dataset is published."""
        shutil.rmtree(self.root)

    def known_files(self) -> Known:
        """Files that an interrupted run of this build has hashed already."""
        try:
            rows = json.loads((self.path / "files.json").read_bytes())
            return {(path, size, mtime): track for path, size, mtime, track in rows}
        except (OSError, ValueError, TypeError):
            return {}

    def remember_files(self, scanned: Sequence[Scanned]) -> None:
        """Keep the ids of files, so that a resumed build does not read them all again."""
        rows = [
            [item.found.path, item.found.size, item.found.mtime_ns, item.track]
            for item in scanned
            if item.track and printable(item.found.path) == item.found.path
        ]
        write_atomically(self.path / "files.json", canonical_json(rows), durable=False)

    def _others(self) -> Iterator[Path]:
        if self.root.is_dir():
            yield from (p for p in sorted(self.root.iterdir()) if p.is_dir() and p != self.path)


def _config_of(staging: Path) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = json.loads((staging / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config
