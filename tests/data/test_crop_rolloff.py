"""The roll-off that comes with a crop, against the transform of the crop's own sound."""

from __future__ import annotations

import numpy as np
import soundfile
from helpers import music
from scipy.signal import butter, sosfilt

from jatsr_data import LatentDataset, LatentLoader

RATE, HOP = 44100, 512


def rolloff_of(sound, first, frames):
    """Of STFT frames centred on the samples ``HOP * k``, computed here from its definition."""
    padded = np.pad(sound, (1024, 1024))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    pieces = [padded[HOP * k : HOP * k + 2048] for k in range(first, first + frames)]
    summed = np.abs(np.fft.rfft(np.stack(pieces) * window)).sum(axis=0)
    below = np.flatnonzero(np.cumsum(summed) < 0.985 * summed.sum())
    return (below[-1] if len(below) else 0) / 1025


def test_rolloff_of_crops_is_that_of_their_sound(tmp_path, build):
    sounds = {}
    for number in range(3):
        sound = music(20.0, number, RATE, 1)[:, 0]
        if number == 1:  # a piece whose brightness changes from second to second
            dull = sosfilt(butter(6, 3000, fs=RATE, output="sos"), sound)
            sound = np.where(np.arange(len(sound)) // RATE % 5 < 2, dull, sound)
        sounds[number] = np.rint(sound * 32767).astype(np.int16)
        (tmp_path / "music").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"music/{number}.wav", sounds[number], RATE)
    build(tmp_path / "music", tmp_path / "out", loudness=None, val_fraction=0.0,
          excerpt_seconds=8.0, lr=["sinc:16000"])  # fmt: skip
    dataset = LatentDataset(tmp_path / "out", crop_frames=256)
    table = {row["key"]: row for row in _rows(dataset)}
    errors = []
    for batch in LatentLoader(dataset, 4, last="pad"):
        for n, key in enumerate(batch.key):
            if key:
                row = table[key]
                sound = sounds[int(row["source"][-5])] / 32768
                first = row["start_frame"] + int(batch.start[n])
                exact = rolloff_of(sound, first, int(batch.frames[n]))
                errors.append(abs(float(batch.rolloff_hr[n]) - exact))
                assert float(batch.rolloff_lr[n]) < 8000 / 22050 + 0.01
    assert len(errors) >= 12
    assert max(errors) < 0.01


def _rows(dataset):
    from shards.tables import SAMPLES_SCHEMA, read_table

    return read_table(dataset.store, "samples.parquet", SAMPLES_SCHEMA)
