"""A dataset says what made it; ``verify`` notices when somebody changed that."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from datasets import write_dataset

from shards.files import canonical_json
from shards.layout import MANIFEST
from shards.verify import verify


def complaints(folder: Path) -> list[str]:
    found = [p for checked in verify(folder, None) for p in checked.problems]
    return [p.what for p in found if p.where == MANIFEST]


def test_the_fingerprint_is_that_of_the_config(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path)
    digest = hashlib.sha256(canonical_json(manifest.config)).hexdigest()
    replace(manifest, fingerprint=digest).write(tmp_path)
    assert complaints(tmp_path) == []
    replace(manifest, fingerprint=digest, config={**manifest.config, "channels": "stereo"}).write(
        tmp_path
    )
    (what,) = complaints(tmp_path)
    assert digest[:12] in what
