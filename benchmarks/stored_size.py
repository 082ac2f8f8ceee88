"""What a dataset of Descript Audio Codec codes weighs, without running the network.

    python benchmarks/stored_size.py DATASET

Takes a dataset made with the embedded codec, puts code arrays of DAC's shape in place of every
sample's coefficients (both codecs have the same frames), packs the samples with the real packer and
adds up the bytes: tar headers, metadata, captions and envelopes included.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from common import table

from shards.layout import stream_names
from shards.manifest import read_manifest
from shards.tar import load_npy, npy_bytes, read_samples, tar_run

CODEBOOKS = 9


@click.command()
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
def main(dataset: Path) -> None:
    """Print megabytes per audio-hour and stream."""
    manifest = read_manifest(dataset)
    streams = stream_names(manifest.variants)
    count = {"all samples": [0, 0.0], "full-length samples": [0, 0.0]}
    for entry in manifest.shards:
        for key, _, _, members in read_samples(dataset / entry.name):
            channels, _, frames = load_npy(members["hr.npy"]).shape
            codes = npy_bytes(np.zeros((channels, CODEBOOKS, frames), np.uint16))
            size = len(tar_run(key, {**members, **{f"{name}.npy": codes for name in streams}}))
            hours = frames * manifest.seconds_per_frame / 3600 * len(streams) * channels
            full = frames == manifest.config["excerpt_frames"]
            for name in ("all samples", "full-length samples") if full else ("all samples",):
                count[name][0] += size
                count[name][1] += hours
    rows = [(name, f"{size / hours / 1e6:.3f}") for name, (size, hours) in count.items() if hours]
    click.echo(table(("DAC codes", "MB per hour, stream and channel"), list(rows)))


if __name__ == "__main__":
    main()
