"""Datasets of any lengths for the reader, made without a build."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import packed

from jatsr_data import open_samples
from shards.cutoff import cutoffs
from shards.files import sha256_file
from shards.layout import SAMPLES, SILENCE, shard_name, stream_names
from shards.manifest import Manifest, ShardEntry
from shards.storage import LocalStore
from shards.tables import SAMPLES_SCHEMA, arrow_table, write_table
from shards.tar import END_OF_ARCHIVE, npy_bytes

ROWS = 3
SILENT = np.array([[7], [8], [9]], np.uint16)


def write_lengths(
    folder: Path,
    lengths: Sequence[int],
    *,
    per_shard: int = 5,
    channels: int = 1,
    variants: int = 2,
    split: str = "train",
    rows: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Manifest:
    """Excerpts of these many frames; ``rows`` changes what the table says of each."""
    config = {
        "codec": {"name": "codes", "sample_rate": 44100, "hop": 512, "stored_rows": ROWS,
                  "stored_dtype": "uint16"},
        "degrade": {"lr": ["sinc:16000"] * variants},
        "channels": "stereo" if channels == 2 else "mono",
    }  # fmt: skip
    table, entries = [], []
    for number, first in enumerate(range(0, len(lengths), per_shard)):
        shard, data = shard_name(split, number), b""
        own = range(first, min(first + per_shard, len(lengths)))
        for index in own:
            run, row = _sample(seed, index, lengths[index], channels, variants)
            row |= {"split": split, "shard": shard, "offset": len(data)}
            table.append({**row, **(rows[index] if rows else {})})
            data += run
        path = folder / shard
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data + END_OF_ARCHIVE)
        frames = sum(lengths[index] for index in own)
        entries.append(ShardEntry(shard, len(own), frames, path.stat().st_size, sha256_file(path)))
    (folder / SILENCE).write_bytes(npy_bytes(SILENT))
    hashes = {
        SAMPLES: write_table(LocalStore(folder), SAMPLES, arrow_table(table, SAMPLES_SCHEMA)),
        SILENCE: sha256_file(folder / SILENCE),
    }
    other = "val" if split == "train" else "train"
    manifest = Manifest("f" * 64, config, {split: tuple(entries), other: ()}, hashes)
    manifest.write(folder)
    return manifest


def _sample(
    seed: int, index: int, frames: int, channels: int, variants: int
) -> tuple[bytes, dict[str, Any]]:
    track = hashlib.sha256(f"{seed} {index}".encode()).hexdigest()[:24]
    random = np.random.default_rng(int(track[:8], 16))
    streams = {
        name: random.integers(0, 1024, (channels, ROWS, frames), np.uint16)
        for name in stream_names(variants)
    }
    return packed(track, streams, random, f"piece {index}", f"/music/{index}.wav")


def expect_batch(folder: Path, batch: Any, split: str = "train") -> None:
    """Compare every crop of a batch with the sample that it was cut from."""
    samples = {sample.key: sample for sample in open_samples(folder, split)}
    for n, key in enumerate(batch.key):
        start, frames, variant = (int(v[n]) for v in (batch.start, batch.frames, batch.variant))
        lr = f"lr{variant}"
        if not key:
            assert frames == 0
            assert (batch.hr[n].numpy() == SILENT).all()
            assert (batch.lr[n].numpy() == SILENT).all()
            continue
        sample = samples[key]
        for stored, name in ((batch.hr[n].numpy(), "hr"), (batch.lr[n].numpy(), lr)):
            expected = sample.streams[name][..., start : start + frames]
            assert np.array_equal(stored[..., :frames], expected)
            assert (stored[..., frames:] == SILENT).all()
        assert frames == min(batch.hr.shape[-1], sample.frames - start)
        assert batch.caption[n] == sample.caption
        for value, name in ((batch.rolloff_hr[n], "hr"), (batch.rolloff_lr[n], lr)):
            assert float(value) == np.float32(sample.rolloff(name, start, frames))
        high, low = sample.spectrum[:1], sample.spectrum[1 + variant : 2 + variant]
        assert float(batch.cutoff[n]) == cutoffs(high, low)[0]
        assert batch.mask[n].tolist() == [k < frames for k in range(batch.hr.shape[-1])]
