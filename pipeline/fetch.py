"""Sources in object storage, as local files for as long as they are read."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.captions.sidecar import sidecar_path
from shards.storage import is_url, open_store


def sidecar_url(url: str) -> str:
    """Address of the text beside an audio file: ``s3://music/song.txt``."""
    folder, _, name = url.rpartition("/")
    return f"{folder}/{sidecar_path(Path(name)).name}"


@contextlib.contextmanager
def local_copy(path: str, scratch: Path | None, *, sidecar: bool = False) -> Iterator[Path]:
    """A source as a local file: itself, or a copy that is gone afterwards.

    Args:
        path: a path or a URL.
        scratch: where copies are made; None for the usual temporary folder.
        sidecar: also bring the text file of the same name, if there is one.

    Raises:
        FileNotFoundError: the object is gone.
        EnvironmentFailure: the storage cannot be reached.
    """
    if not is_url(path):
        yield Path(path)
        return
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="source-"))
    try:
        copy = folder / f"audio{_suffix(path)}"
        open_store(path).download("", copy)
        if sidecar:
            with contextlib.suppress(FileNotFoundError):
                open_store(sidecar_url(path)).download("", sidecar_path(copy))
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _suffix(url: str) -> str:
    """``.flac``; decoders go by content, people who read messages by the ending."""
    suffix = Path(urlsplit(url).path).suffix
    return suffix if suffix.isascii() and len(suffix) < 8 else ""
