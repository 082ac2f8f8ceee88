"""Put a folder of music into object storage, once.

python seed.py FOLDER URL [BUCKET...]

The credentials and the address of the storage come from the usual environment variables.
"""

from __future__ import annotations

from pathlib import Path

import click
import fsspec
from fsspec import AbstractFileSystem


def make_buckets(storage: AbstractFileSystem, names: list[str]) -> None:
    """Make the buckets that are not there yet."""
    for name in names:
        if not storage.exists(name):
            storage.mkdir(name)


def upload(storage: AbstractFileSystem, folder: Path, target: str) -> tuple[int, int]:
    """Copy the files below ``folder``; what is there already with the same size is left alone.

    Returns:
        how many files there are, and how many of them were copied.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    there = storage.find(target, detail=True) if storage.exists(target) else {}
    copied = 0
    for path in files:
        name = f"{target}/{path.relative_to(folder).as_posix()}"
        if name in there and there[name]["size"] == path.stat().st_size:
            continue
        storage.put_file(str(path), name)
        copied += 1
    return len(files), copied


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("url")
@click.argument("buckets", nargs=-1, metavar="[BUCKET...]")
def main(folder: Path, url: str, buckets: tuple[str, ...]) -> None:
    """Copy FOLDER to URL (s3://bucket or below); make its bucket and every BUCKET first."""
    storage, target = fsspec.url_to_fs(url, use_listings_cache=False)
    target = target.rstrip("/")
    make_buckets(storage, [target.split("/")[0], *buckets])
    files, copied = upload(storage, folder, target)
    click.echo(f"{url}: {files} files, {copied} of them new")


if __name__ == "__main__":
    main()
