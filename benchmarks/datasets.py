"""Datasets for the benchmarks of readers, shaped like those of Descript Audio Codec, without audio.

A sample is a minute, mono, with one low-res variant and all members that ``jatsr build`` writes;
codes are random numbers. For epochs that are longer than a disk is large, shards are listed several
times: as hard links under other names, so that no reader can tell. At the end of this file is what
readers of whole samples need to give crops.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import webdataset as wds
from torch.utils.data import IterableDataset, default_collate

from shards.envelope import BINS, COLUMNS, blocks_of
from shards.files import canonical_json, sha256_file
from shards.layout import SAMPLES, SILENCE, sample_key, shard_name
from shards.manifest import Manifest, ShardEntry
from shards.storage import LocalStore
from shards.tables import SAMPLES_SCHEMA, arrow_table, write_table
from shards.tar import END_OF_ARCHIVE, load_npy, npy_bytes, read_samples, sample_digest, tar_run

Sample = dict[str, Any]
FRAMES, ROWS, CODES = 5168, 9, 1024
CROP, BATCH, BUFFER = 512, 64, 2000
SHARD_SAMPLES = 128  # 26 MB
_CODEC = {"name": "dac-44khz-untrained", "sample_rate": 44100, "hop": 512, "stored_rows": ROWS,
          "stored_dtype": "uint16"}  # fmt: skip
_CONFIG = {"codec": _CODEC, "degrade": {"lr": ["sinc:16000"]}, "channels": "mono"}


def write_dataset(folder: Path, hours: float, copies: int = 1) -> None:
    """Write a dataset of so many hours, and list it ``copies`` times."""
    entries, tables = [], []
    samples = round(hours * 60)
    for number, first in enumerate(range(0, samples, SHARD_SAMPLES)):
        entry, rows = _write_shard(folder, number, range(samples)[first : first + SHARD_SAMPLES])
        entries.append(entry)
        tables.append(arrow_table(rows, SAMPLES_SCHEMA))
    distinct = len(entries)
    for number in range(distinct, distinct * copies):
        entry, table = entries[number % distinct], tables[number % distinct]
        name = shard_name("train", number)
        os.link(folder / entry.name, folder / name)
        entries.append(replace(entry, name=name))
        column = pa.array([name] * len(table), pa.string())
        tables.append(table.set_column(table.column_names.index("shard"), "shard", column))
    (folder / SILENCE).write_bytes(npy_bytes(np.full((ROWS, 1), 7, np.uint16)))
    hashes = {
        SAMPLES: write_table(LocalStore(folder), SAMPLES, pa.concat_tables(tables)),
        SILENCE: sha256_file(folder / SILENCE),
    }
    splits: dict[str, tuple[ShardEntry, ...]] = {"train": tuple(entries), "val": ()}
    Manifest("f" * 64, _CONFIG, splits, hashes).write(folder)


def _write_shard(folder: Path, number: int, own: range) -> tuple[ShardEntry, list[dict[str, Any]]]:
    path = folder / shard_name("train", number)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, offset = [], 0
    with path.open("wb") as file:
        for index in own:
            run, row = _sample(index)
            file.write(run)
            rows.append({**row, "shard": shard_name("train", number), "offset": offset})
            offset += len(run)
        file.write(END_OF_ARCHIVE)
    size = path.stat().st_size
    return ShardEntry(rows[0]["shard"], len(own), len(own) * FRAMES, size, sha256_file(path)), rows


def _sample(index: int) -> tuple[bytes, dict[str, Any]]:
    track = hashlib.sha256(str(index).encode()).hexdigest()[:24]
    random = np.random.default_rng(index)
    key, caption = sample_key(track, 0), f"piece {index}: warm strings over a slow, steady beat"
    tags = {"title": f"Piece {index}", "artist": "Nobody", "album": "None", "genre": "Ambient"}
    place = {"key": key, "track": track, "excerpt": 0, "start_frame": 0, "frames": FRAMES}
    row = {
        **place, "split": "train", "seconds": FRAMES * 512 / 44100, "rolloff": [0.5, 0.3],
        "caption": caption, "caption_source": "measured", "tags": tags, "loudness_lufs": -16.0,
        "gain_db": 1.5, "source": f"/music/nobody/none/{index:06d}.flac",
    }  # fmt: skip
    facts = {name: row[name] for name in ("rolloff", "tags", "caption_source", "gain_db")}
    metadata = {**place, **_CODEC, **facts, "lr": {"lr0": {"kind": "sinc", "rate": 16000}}}
    envelopes = {"spectrum": (2, BINS), "bands": (2, blocks_of(FRAMES), COLUMNS)}
    members = {
        "json": canonical_json(metadata),
        "txt": caption.encode(),
        **{
            f"{k}.npy": npy_bytes(random.integers(1, 160, v, np.uint8))
            for k, v in envelopes.items()
        },
        **{
            f"{name}.npy": npy_bytes(random.integers(0, CODES, (1, ROWS, FRAMES), np.uint16))
            for name in ("hr", "lr0")
        },
    }
    run = tar_run(key, members)
    return run, {**row, "bytes": len(run), "digest": sample_digest(run)}


def samples_of(folder: Path) -> Iterator[Sample]:
    """What a trainer needs of the samples of a dataset, each of them once."""
    seen = set[int]()
    for path in sorted(folder.glob("train/*.tar")):
        if path.stat().st_ino in seen:
            continue
        seen.add(path.stat().st_ino)
        for key, _, _, members in read_samples(path):
            codes = {name: load_npy(members[f"{name}.npy"]) for name in ("hr", "lr0")}
            yield {**codes, "txt": members["txt"].decode(), "key": key}


def write_mosaicml(dataset: Path, folder: Path, copies: int) -> None:
    """The samples of a dataset as MDS shards."""
    from streaming import MDSWriter

    columns = {"hr": "ndarray:uint16", "lr0": "ndarray:uint16", "txt": "str", "key": "str"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=1 << 25) as writer:
        for sample in samples_of(dataset):
            writer.write(sample)

    def names(shard: dict[str, Any]) -> dict[str, Any]:
        return shard["raw_data"]  # type: ignore[no-any-return]

    _list_again(folder, "shards", names, "basename", copies)


def write_litdata(dataset: Path, folder: Path, copies: int) -> None:
    """The samples of a dataset as chunks of litdata."""
    from litdata.streaming.cache import Cache

    cache = Cache(str(folder), chunk_bytes=1 << 25)
    for index, sample in enumerate(samples_of(dataset)):
        cache._add_item(index, sample)
    cache.done()
    cache.merge()
    _list_again(folder, "chunks", lambda chunk: chunk, "filename", copies)


def _list_again(folder: Path, field: str, names: Any, name: str, copies: int) -> None:
    """List the shards of another format several times, under other names."""
    index = json.loads((folder / "index.json").read_text())
    listed = list(index[field])
    for copy in range(1, copies):
        for entry in json.loads(json.dumps(listed)):
            old = names(entry)[name]
            names(entry)[name] = new = old.replace(".", f"-{copy}.", 1)
            os.link(folder / old, folder / new)
            index[field].append(entry)
    (folder / "index.json").write_text(json.dumps(index))


def write_all(work: Path, hours: float, copies: int) -> None:
    """Write a dataset, a tenfold one, and the samples in the formats that can be written."""
    write_dataset(work / "jatsr", hours, copies)
    write_dataset(work / "large", hours, 10 * copies)
    if util.find_spec("streaming"):
        write_mosaicml(work / "jatsr", work / "mosaicml", copies)
    if util.find_spec("litdata"):
        write_litdata(work / "jatsr", work / "litdata", copies)


def random_crops(samples: list[Sample]) -> Sample:
    """A batch of one random crop of each sample, put together by torch."""
    starts = np.random.randint(FRAMES - CROP + 1, size=len(samples))  # noqa: NPY002
    crops = [_crop(s, at) for s, at in zip(samples, starts, strict=True)]
    return default_collate(crops)  # type: ignore[no-any-return]


def all_crops(samples: Iterable[Sample]) -> Iterator[Sample]:
    """All crops of samples, from a random phase on."""
    for sample in samples:
        for at in range(np.random.randint(CROP), FRAMES - CROP + 1, CROP):  # noqa: NPY002
            yield _crop(sample, at)


def stacked(crops: list[Sample]) -> Sample:
    """A batch, with tensors because those need not be pickled."""
    columns = {name: [crop[name] for crop in crops] for name in crops[0]}
    codes = {name: torch.from_numpy(np.stack(columns[name])) for name in ("hr", "lr0")}
    return {**columns, **codes}


def _crop(sample: Sample, at: int) -> Sample:
    codes = {name: sample[name][..., at : at + CROP] for name in ("hr", "lr0")}
    return {**codes, "txt": sample["txt"], "key": sample["key"]}


class Mixed(IterableDataset[Any]):
    """Iterator[Any] of all crops of another dataset's samples."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[Any]:
        crops = wds.filters.shuffle(BUFFER, initial=BUFFER)(all_crops(self._samples))
        return iter(wds.filters.batched(BATCH, collation_fn=stacked)(crops))
