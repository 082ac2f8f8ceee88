"""The files of ``stats.zarr`` on this machine, wherever the dataset is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from shards.errors import FormatError
from shards.layout import PROJECTED, STATISTICS, stream_names
from shards.manifest import read_manifest
from shards.scratch import scratch_folder
from shards.storage import Store

FIELDS: Final = ("mean", "m2", "min", "max")


@contextlib.contextmanager
def open_statistics(store: Store) -> Iterator[Any]:
    """The root group with everything in it, inside the ``with``.

    Raises:
        FormatError: the statistics are missing or damaged.
    """
    with _everything(store) as path, _expect_statistics(path, store) as root:
        yield root


@contextlib.contextmanager
def open_totals(store: Store, split: str) -> Iterator[Any]:
    """The root group with at least the totals of a split in it, inside the ``with``.

    Of a remote dataset nothing else is downloaded and nothing is listed: a web server will do.

    Raises:
        FormatError: the statistics (or, of a remote dataset, the manifest) are missing or damaged.
    """
    if store.is_local:
        with open_statistics(store) as root:
            yield root
        return
    with scratch_folder() as folder:
        for name, data in store.child(STATISTICS).read_many(_files_of_totals(store, split)):
            if data is None:
                raise _missing(store)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with _expect_statistics(folder, store) as root:
            yield root


def _files_of_totals(store: Store, split: str) -> list[str]:
    """Names inside ``stats.zarr``: they follow from the manifest, and an array is one chunk."""
    manifest = read_manifest(store)
    if not manifest.splits.get(split):
        return ["zarr.json"]
    suffixes = ("", PROJECTED) if "projected_dim" in manifest.codec else ("",)
    streams = stream_names(manifest.variants)
    groups = [f"{split}/{stream}{suffix}" for stream in streams for suffix in suffixes]
    arrays = [f"{group}/{field}" for group in groups for field in ("n", *FIELDS)]
    nodes = [f"{node}/zarr.json" for node in (split, *groups, *arrays)]
    return ["zarr.json", *nodes, *(f"{array}/c/0" for array in arrays)]


@contextlib.contextmanager
def _everything(store: Store) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(store.local(STATISTICS))
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(store) from None
        yield path


def _missing(store: Store) -> FormatError:
    return FormatError(
        f"{store.join(STATISTICS)}: expected the statistics of a dataset, found none",
        hint="run the same jatsr build command again: it derives them from the shards",
    )


@contextlib.contextmanager
def _expect_statistics(path: Path, store: Store) -> Iterator[Any]:
    """The root group; whatever a damaged store raises becomes a ``FormatError``."""
    import zarr

    try:
        yield zarr.open_group(path, mode="r")
    # What zarr and its codecs raise on damaged metadata and chunks.
    except (LookupError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise FormatError(
            f"{store.join(STATISTICS)}: expected the statistics of a dataset, found none that can "
            f"be read ({error})",
            hint="run the same jatsr build command again: it derives them from the shards",
        ) from error
