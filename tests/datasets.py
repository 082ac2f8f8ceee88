"""A small dataset made without a build: random latents in two shards, one sample per track."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards.envelope import BINS, COLUMNS, blocks_of
from shards.files import canonical_json, sha256_file, sha256_json, sha256_tree
from shards.layout import LEDGER, PROJECTED, SAMPLES, SILENCE, STATISTICS, sample_key, shard_name
from shards.manifest import Manifest, ShardEntry
from shards.statistics import Spaces, shard_moments, write_statistics
from shards.storage import LocalStore
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, arrow_table, write_table
from shards.tar import END_OF_ARCHIVE, npy_bytes, sample_digest, tar_run

STREAMS = ("hr", "lr0")
ROWS, FRAMES = 4, 100
CONFIG: dict[str, Any] = {
    "codec": {"name": "mdct", "sample_rate": 44100, "hop": 512, "stored_rows": ROWS,
              "stored_dtype": "float16"},
    "degrade": {"lr": ["sinc:16000"]},
    "channels": "mono",
    "loudness": {"target_lufs": -16.0},
    "split": {"by": "track", "val_fraction": 0.1},
}  # fmt: skip


def latents(stored: NDArray[Any]) -> NDArray[np.float32]:
    """What is stored are the latents."""
    return stored.astype(np.float32)


def projected(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Two numbers per frame."""
    return latents(stored)[..., :2, :] * 2 + 1


SPACES: Spaces = {"": latents}
WITH_PROJECTIONS: Spaces = {"": latents, PROJECTED: projected}


def write_dataset(
    folder: Path, samples: int = 3, shards: int = 2, spaces: Spaces = SPACES
) -> Manifest:
    """Write a dataset that ``verify`` finds nothing wrong with."""
    codec = {**CONFIG["codec"], **({"projected_dim": 2} if PROJECTED in spaces else {})}
    entries, rows, ledger = [], [], []
    for number in range(shards):
        shard = shard_name("train", number)
        runs = []
        for index in range(samples):
            track = hashlib.sha256(f"{number} {index}".encode()).hexdigest()[:24]
            run, row = _sample(track, shard, sum(map(len, runs)))
            runs.append(run)
            rows.append(row)
            ledger.append(_ledger_row(track, row))
        path = folder / shard
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(runs) + END_OF_ARCHIVE)
        entries.append(
            ShardEntry(shard, samples, samples * FRAMES, path.stat().st_size, sha256_file(path))
        )
    store = LocalStore(folder)
    write_table(store, SAMPLES, arrow_table(rows, SAMPLES_SCHEMA))
    write_table(store, LEDGER, arrow_table(ledger, LEDGER_SCHEMA))
    store.write(SILENCE, npy_bytes(np.zeros((ROWS, 1), np.float16)))
    moments = {e.name: shard_moments(folder / e.name, STREAMS, spaces) for e in entries}
    write_statistics(folder / STATISTICS, {"train": moments}, {"codec": codec})
    files = {name: sha256_file(folder / name) for name in (SAMPLES, LEDGER, SILENCE)}
    files[STATISTICS] = sha256_tree(folder / STATISTICS)
    config = {**CONFIG, "codec": codec}
    fingerprint = sha256_json(config)
    manifest = Manifest(fingerprint, config, {"train": tuple(entries)}, files, {"jatsr": "0"})
    manifest.write(folder)
    return manifest


def _sample(track: str, shard: str, offset: int) -> tuple[bytes, dict[str, Any]]:
    random = np.random.default_rng(int(track[:8], 16))
    streams = {
        name: random.standard_normal((1, ROWS, FRAMES)).astype(np.float16) for name in STREAMS
    }
    run, row = packed(track, streams, random, "noise", f"{track}.wav")
    return run, {**row, "split": "train", "shard": shard, "offset": offset}


def packed(
    track: str,
    streams: dict[str, NDArray[Any]],
    random: np.random.Generator,
    caption: str,
    source: str,
) -> tuple[bytes, dict[str, Any]]:
    """A sample of given frames with a random envelope, and its row but for where it is."""
    key, count = sample_key(track, 0), len(streams)
    frames = streams["hr"].shape[-1]
    members = {f"{name}.npy": npy_bytes(stored) for name, stored in streams.items()}
    spectrum = random.integers(1, 200, (count, BINS)).astype(np.uint8)
    bands = random.integers(1, 200, (count, blocks_of(frames), COLUMNS)).astype(np.uint8)
    members |= {
        "json": canonical_json({"key": key, "frames": frames}),
        "txt": caption.encode(),
        "spectrum.npy": npy_bytes(spectrum),
        "bands.npy": npy_bytes(bands),
    }
    run = tar_run(key, members)
    row = {
        "key": key, "track": track, "excerpt": 0, "bytes": len(run), "digest": sample_digest(run),
        "start_frame": 0, "frames": frames, "seconds": frames * 512 / 44100,
        "rolloff": [0.5] + [0.3] * (count - 1), "caption": caption, "caption_source": "measured",
        "tags": {}, "source": source,
    }  # fmt: skip
    return run, row


def _ledger_row(track: str, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": row["source"], "status": "ok", "track": track, "split": "train",
        "seconds": row["seconds"], "excerpts": 1, "bytes": 1, "mtime_ns": 1,
    }  # fmt: skip
