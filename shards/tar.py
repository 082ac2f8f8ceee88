"""Runs of tar members: what a part is made of, and what a shard concatenates.

Members are written by webdataset's own ``TarWriter`` with everything pinned that could vary
(USTAR, mtime 0, uid and gid 0, no names, mode 0644), so equal samples give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shards.errors import FormatError

BLOCK: Final = tarfile.BLOCKSIZE
END_OF_ARCHIVE: Final = b"\0" * (2 * BLOCK)
DIGEST_BYTES: Final = 16


def npy_bytes(array: NDArray[Any]) -> bytes:
    """A version 1.0 ``.npy`` file in memory; C order, no pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array(
        buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
    )
    return buffer.getvalue()


def load_npy(data: bytes) -> NDArray[Any]:
    """Read a ``.npy`` member; refuses pickled content."""
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FormatError(f"expected a .npy array, found {len(data)} bytes: {error}") from error
    return array


def tar_run(key: str, members: Mapping[str, bytes]) -> bytes:
    """Tar members ``key.extension`` of one sample, without the end-of-archive blocks.

    Args:
        key: the sample's key, without dots.
        members: extension -> content; written in sorted order.
    """
    from webdataset import TarWriter

    if "." in key or "/" in key:
        raise ValueError(f"a sample key holds no dot and no slash, found {key!r}")
    buffer = io.BytesIO()
    with TarWriter(buffer, encoder=False, mtime=0, user="", group="", mode=0o644) as writer:
        writer.write({"__key__": key, **members})
    size = sum(BLOCK + -(-len(data) // BLOCK) * BLOCK for data in members.values())
    run = buffer.getvalue()
    if any(run[size:]):  # a member took more headers than planned: a name longer than USTAR holds
        raise ValueError(f"members of {key!r} do not fit plain USTAR headers")
    return run[:size]


def sample_digest(run: bytes | memoryview) -> bytes:
    """What ``samples.parquet`` keeps of a sample's run: the first 16 bytes of its sha256.

    It lets a reader that has fetched a stretch of a shard check the samples in it one by one.
    """
    return hashlib.sha256(run).digest()[:DIGEST_BYTES]


def read_samples(path: Path) -> Iterator[tuple[str, int, int, dict[str, bytes]]]:
    """Samples of a shard in order: key, offset, bytes, extension -> content.

    Raises:
        FormatError: the tar is damaged or holds something that format version 1 does not.
    """
    key, start, members = "", 0, dict[str, bytes]()
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                name, dot, extension = info.name.partition(".")
                if not info.isfile() or not dot or "/" in info.name:
                    raise FormatError(
                        f"{path}: expected members 'key.extension', found {info.name!r}"
                    )
                if name != key and members:
                    yield key, start, info.offset - start, members
                    start, members = info.offset, {}
                key = name
                reader = tar.extractfile(info)
                assert reader is not None  # isfile() said so
                members[extension] = reader.read()
            end = tar.offset
        _expect_end_of_archive(path, end)
        if members:
            yield key, start, end - start, members
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FormatError(
            f"{path}: expected a readable tar, found: {error}",
            hint="restore the shard from a copy, or remove it and run jatsr build --rebuild",
        ) from error


def _expect_end_of_archive(path: Path, offset: int) -> None:
    """``tarfile`` takes a damaged header for the end: nothing may be lost that way."""
    with path.open("rb") as file:
        file.seek(offset)
        rest = file.read()
    if len(rest) < len(END_OF_ARCHIVE) or any(rest):
        raise FormatError(
            f"{path}: expected the end of the archive at byte {offset}, found other data",
            hint="the shard is damaged: restore it from a copy or rebuild the dataset",
        )
