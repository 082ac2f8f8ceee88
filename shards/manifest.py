"""``dataset.json``: written last, it makes a dataset exist and says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shards.errors import FormatError
from shards.files import pretty_json
from shards.layout import FORMAT_VERSION, MANIFEST, SPLITS
from shards.storage import StoreLike, open_store


@dataclass(frozen=True)
class ShardEntry:
    """One tar of a split."""

    name: str  # relative to the dataset, e.g. train/000000.tar
    samples: int
    frames: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What ``dataset.json`` holds."""

    fingerprint: str
    config: Mapping[str, Any]  # all that influences bytes; the fingerprint is its hash
    splits: Mapping[str, tuple[ShardEntry, ...]]
    files: Mapping[str, str]  # name of a table -> sha256 of its bytes
    made_with: Mapping[str, str] = field(default_factory=dict)  # library versions, for people
    format_version: int = FORMAT_VERSION

    @property
    def codec(self) -> Mapping[str, Any]:
        """The codec's identity."""
        codec: Mapping[str, Any] = self.config["codec"]
        return codec

    @property
    def variants(self) -> int:
        """How many low-res variants every sample has."""
        return len(self.config["degrade"]["lr"])

    @property
    def shards(self) -> tuple[ShardEntry, ...]:
        """All shards, split by split."""
        return tuple(entry for split in SPLITS for entry in self.splits.get(split, ()))

    @property
    def seconds_per_frame(self) -> float:
        """Duration of a latent frame."""
        return float(self.codec["hop"]) / float(self.codec["sample_rate"])

    def write(self, dataset: StoreLike) -> None:
        """Write ``dataset.json`` atomically and durably."""
        document = {
            "format_version": self.format_version,
            "fingerprint": self.fingerprint,
            "config": dict(self.config),
            "splits": {
                split: [asdict(entry) for entry in self.splits.get(split, ())] for split in SPLITS
            },
            "files": dict(self.files),
            "made_with": dict(self.made_with),
        }
        open_store(dataset).write(MANIFEST, pretty_json(document))


def read_manifest(dataset: StoreLike) -> Manifest:
    """Read ``dataset.json``.

    Raises:
        FormatError: there is none, it is damaged or of another format version.
    """
    store = open_store(dataset)
    path = store.join(MANIFEST)
    try:
        data = store.read(MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(
            f"{store.url}: expected a dataset, found no {MANIFEST}",
            hint="an unfinished build has none: run the same jatsr build command again",
        ) from None
    try:
        document = json.loads(data)
        version = document["format_version"]
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{path}: expected format version {FORMAT_VERSION}, found {version}",
                hint="use the jatsr release that wrote it, or rebuild with --rebuild",
            )
        return Manifest(
            fingerprint=document["fingerprint"],
            config=document["config"],
            splits={
                split: tuple(ShardEntry(**entry) for entry in entries)
                for split, entries in document["splits"].items()
            },
            files=document["files"],
            made_with=document["made_with"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"{path}: expected the manifest of a dataset, found something else ({error!r})",
            hint="restore it from a copy, or rebuild with --rebuild",
        ) from error
