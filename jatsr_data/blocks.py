"""Blocks: runs of samples that are fetched and verified together, and frames out of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from shards.errors import FormatError
from shards.tar import BLOCK, DIGEST_BYTES

Read = Callable[[int, int], bytes | memoryview]
"""All bytes ``[position, position + size)`` of a block, from a file of this machine."""

_PIECE: Final = 1 << 18  # bytes that are read at a time
_FAR: Final = 1 << 15  # rows of more bytes are read one by one, without what is between crops
_NPY_START: Final = 128  # bytes: the header of a .npy member, as a rule
_USTAR: Final = b"ustar\x0000"


@dataclass(frozen=True)
class Block:
    """Samples that follow each other in a shard.

    Attributes:
        shard: name in the dataset, such as ``train/000003.tar``.
        shard_sha256: of the whole shard, from the manifest.
        shard_bytes: its size, from the manifest.
        offset: of the first sample in the shard.
        keys: of the samples, in order.
        sizes: bytes of each.
        digests: of each, see ``shards.tar.sample_digest``.
    """

    shard: str
    shard_sha256: str
    shard_bytes: int = field(compare=False)
    offset: int
    keys: tuple[str, ...]
    sizes: tuple[int, ...] = field(compare=False)
    digests: tuple[bytes, ...] = field(compare=False)

    @property
    def bytes(self) -> int:
        """Of all samples together."""
        return sum(self.sizes)


def _samples(block: Block) -> Iterator[tuple[str, int, int, bytes]]:
    """Key, position in the block, size and digest of each sample."""
    position = 0
    for key, size, digest in zip(block.keys, block.sizes, block.digests, strict=True):
        yield key, position, size, digest
        position += size


def verify_block(block: Block, read: Read, where: str) -> None:
    """Compare the hash of every sample; in small pieces, so that memory stays free.

    Args:
        block: what is expected.
        read: gives its bytes.
        where: address of the shard for messages.

    Raises:
        FormatError: a sample has other bytes.
    """
    for key, position, size, digest in _samples(block):
        found = hashlib.sha256()
        for start in range(position, position + size, _PIECE):
            found.update(read(start, min(_PIECE, position + size - start)))
        if found.digest()[:DIGEST_BYTES] != digest:
            damaged(
                f"{where}: sample {key} at byte {block.offset + position}: expected bytes with "
                f"sha256 {digest.hex()}..., found {found.hexdigest()[: 2 * DIGEST_BYTES]}..."
            )


def damaged(message: str) -> NoReturn:
    """Raise the error for a shard that is not the one that the manifest describes."""
    raise FormatError(
        message,
        hint="run `jatsr verify DATASET`: if it finds the same, restore the shard from a copy or "
        "build the dataset again; if not, it was replaced while it was read: start again",
    )


@dataclass(frozen=True, slots=True)
class _Array:
    """Where the values of a .npy member begin in the block, and what they are."""

    position: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def load(self, read: Read) -> NDArray[Any]:
        return np.frombuffer(read(self.position, self.bytes), self.dtype).reshape(self.shape)


class OpenBlock:
    """A block of which it is known where everything is; frames are read when they are asked for.

    It belongs to the process that opened it; any of its threads may use it.

    Args:
        block: the block.
        streams: ``hr``, ``lr0``, ...: those that can be read.
        read: gives its bytes.
        where: address of the shard for messages.
        held: ``read`` returns views of memory that may be kept.

    Attributes:
        spectrum: per sample uint8 ``[streams of the dataset, bins]``, see ``shards.envelope``.
        bands: per sample uint8 ``[streams of the dataset, blocks, columns]``.

    Raises:
        FormatError: the samples are not what the format says they are.
    """

    def __init__(
        self, block: Block, streams: tuple[str, ...], read: Read, where: str, *, held: bool = False
    ) -> None:
        self.block = block
        self.spectrum: list[NDArray[np.uint8]] = []
        self.bands: list[NDArray[np.uint8]] = []
        self._read, self._held = read, held
        self._captions: list[str] = []
        self._frames: list[dict[str, _Array]] = []
        self._views: list[dict[str, NDArray[Any]]] = []  # of what is held
        for key, position, size, _ in _samples(block):
            try:
                self._add(streams, _members(read, key, position, size))
            except ValueError as error:
                damaged(f"{where}: sample {key} at byte {block.offset + position}: {error}")

    def _add(self, streams: tuple[str, ...], members: dict[str, tuple[int, int]]) -> None:
        wanted = {"txt", *(f"{name}.npy" for name in ("spectrum", "bands", *streams))}
        if missing := wanted - members.keys():
            raise ValueError(f"expected {sorted(missing)}, found only {sorted(members)}")
        read = self._read
        self._captions.append(bytes(read(*members["txt"])).decode("utf-8"))
        self.spectrum.append(_array(read, members, "spectrum", 2, np.uint8).load(read))
        self.bands.append(_array(read, members, "bands", 3, np.uint8).load(read))
        self._frames.append({name: _array(read, members, name, 3) for name in streams})
        if self._held:
            self._views.append({name: at.load(read) for name, at in self._frames[-1].items()})

    def caption(self, i: int) -> str:
        """What a sample sounds like, or empty."""
        return self._captions[i]

    def shape(self, i: int, stream: str) -> tuple[int, int, int]:
        """Channels, rows and frames of a stream of a sample."""
        channels, rows, frames = self._frames[i][stream].shape
        return channels, rows, frames

    def read(self, i: int, stream: str, start: int, out: NDArray[Any]) -> None:
        """Read some frames of all rows.

        Args:
            i: number of the sample in the block.
            stream: ``hr``, ``lr0``, ...
            start: the first frame.
            out: where they go, ``[channels, rows, n]`` of the stored type; any view will do.

        Raises:
            FormatError: the file was changed since the block was opened.
            ValueError: the frames are not there, or ``out`` does not fit.
        """
        frames = self._frames[i][stream]
        channels, rows, count = frames.shape
        n = out.shape[-1]
        if out.dtype != frames.dtype or out.shape[:-1] != (channels, rows):
            raise ValueError(
                f"{stream}: expected an array [{channels}, {rows}, n] of {frames.dtype}, "
                f"found {list(out.shape)} of {out.dtype}"
            )
        if not 0 <= start <= count - n:
            raise ValueError(f"{stream}: frames [{start}, {start + n}) outside [0, {count})")
        if self._held:
            out[...] = self._views[i][stream][..., start : start + n]
            return
        width = frames.dtype.itemsize
        row_bytes = count * width
        # Reading what lies between two crops is faster than a system call for each row.
        step = max(_PIECE // row_bytes, 1) if row_bytes <= _FAR and n else 1
        for channel in range(channels):
            for row in range(0, rows, step):
                height = min(step, rows - row)
                position = (channel * rows + row) * row_bytes + start * width
                data = self._read(frames.position + position, (height - 1) * row_bytes + n * width)
                out[channel, row : row + height] = np.ndarray(
                    (height, n), frames.dtype, data, 0, (row_bytes, width)
                )


def _members(read: Read, key: str, position: int, size: int) -> dict[str, tuple[int, int]]:
    """Position and bytes of the members of a sample by extension.

    Raises:
        ValueError: it is not a run of tar members of this sample.
    """
    members: dict[str, tuple[int, int]] = {}
    end = position + size
    while position < end:
        name, length = _tar_header(bytes(read(position, BLOCK)))
        start, (sample, dot, extension) = position + BLOCK, name.partition(".")
        position = start + -(-length // BLOCK) * BLOCK
        if sample != key or not dot or position > end:
            raise ValueError(f"expected its members, found {name!r} of {length} bytes")
        members[extension] = start, length
    return members


def _tar_header(header: bytes) -> tuple[str, int]:
    """Name and size in a header of a plain file, as ``shards.tar`` writes them."""
    if header[257:265] != _USTAR:
        raise ValueError("expected a USTAR header, found other bytes")
    digits = header[124:135]
    if header[156:157] != b"0" or header[345] != 0 or not digits.isdigit():
        raise ValueError(f"expected a file without a folder, found {header[:100]!r}")
    return header[:100].rstrip(b"\0").decode("latin-1"), int(digits, 8)


def _array(
    read: Read, members: dict[str, tuple[int, int]], name: str, axes: int, dtype: Any = None
) -> _Array:
    """Where an array is.

    Raises:
        ValueError: the member is not an array of so many axes and this type.
    """
    position, size = members[f"{name}.npy"]
    start = bytes(read(position, min(_NPY_START, size)))
    length = 10 + int.from_bytes(start[8:10], "little")  # magic, version and this length: 10 bytes
    if length > len(start):
        start = bytes(read(position, min(length, size)))
    shape, found = _npy_header(start[:length])
    array = _Array(position + length, shape, found)
    if len(shape) != axes or length + array.bytes != size or found != (dtype or found):
        raise ValueError(
            f"{name}.npy: expected {axes} axes in {size} bytes, found {found} {list(shape)}"
        )
    return array


@lru_cache(maxsize=4096)  # most samples have the same few
def _npy_header(header: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type in the header of a .npy file.

    Raises:
        ValueError: it is not one of version 1.0, in C order and without Python objects.
    """
    file = BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("expected .npy version 1.0, found another")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise ValueError(f"expected values in C order, found {dtype} {list(shape)}")
    return shape, dtype
