"""Sources in object storage, as local files for as long as they are read."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

from pipeline.captions.sidecar import READ_BYTES, sidecar_path
from shards.addresses import is_web, shown
from shards.errors import ConfigError
from shards.scratch import scratch_folder
from shards.storage import is_url, open_store


def remote_sidecar(url: str) -> bytes | None:
    """The beginning of the text beside a source, ``s3://music/song.txt``; None if there is none.

    Servers, and buckets that may not be listed, refuse what they do not have: that is none too.
    """
    base, mark, query = url.partition("?") if is_web(url) else (url, "", "")
    folder, _, name = base.rpartition("/")
    if not name or "://" not in folder:  # the front page of a server
        return None
    beside = f"{folder}/{sidecar_path(Path(name)).name}{mark}{query}"
    try:
        return open_store(beside).read("", 0, READ_BYTES)
    except (FileNotFoundError, ConfigError):
        return None


@contextlib.contextmanager
def local_copy(path: str, scratch: Path | None = None, *, sidecar: bool = False) -> Iterator[Path]:
    """A source as a local file: itself, or a copy that is gone afterwards.

    Args:
        path: a path or a URL.
        scratch: where copies are made; None for a scratch folder of its own.
        sidecar: also bring the text file of the same name, if there is one.

    Raises:
        FileNotFoundError: the object is gone.
        EnvironmentFailure: the storage cannot be reached.
    """
    if not is_url(path):
        yield Path(path)
        return
    with ExitStack() as stack:
        root = scratch or stack.enter_context(scratch_folder())
        folder = Path(mkdtemp(prefix="source-", dir=root))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        copy = folder / f"audio{_suffix(path)}"
        open_store(path).download("", copy)
        if sidecar and (text := remote_sidecar(path)) is not None:
            sidecar_path(copy).write_bytes(text)
        yield copy


def _suffix(url: str) -> str:
    """``.flac``; decoders go by content, people who read messages by the ending."""
    suffix = Path(shown(url)).suffix
    return suffix if suffix.isascii() and len(suffix) < 8 else ""
