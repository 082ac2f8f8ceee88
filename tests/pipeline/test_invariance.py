"""A sample is a function of its file and the configuration, and of nothing else."""

from __future__ import annotations

import itertools
import os
import shutil

import numpy as np
import pytest
from helpers import music, sample_bytes, write_music
from hypothesis import given, settings
from hypothesis import strategies as st

from jatsr_data import open_samples
from jatsr_model.codecs import CodecConfig, encode, load, registry, resolve
from jatsr_model.codecs.windower import Windower
from pipeline.stages import source
from shards.manifest import read_manifest
from shards.silence import read_silence
from shards.statistics import read_totals


@pytest.fixture(scope="module")
def mdct():
    return load(resolve(CodecConfig(name="mdct")))


def test_neighbours_do_not_change_a_sample(album, build, tmp_path):
    build(album, tmp_path / "all")
    together = sample_bytes(tmp_path / "all")
    for name in ("a/one.wav", "b/five.aiff", "c/nine.ogg"):
        build(album / name, tmp_path / "alone" / name)
        alone = sample_bytes(tmp_path / "alone" / name)
        assert alone
        assert {key: together[key] for key in alone} == alone


def test_names_and_places_do_not_change_a_sample(album, build, tmp_path):
    shutil.copy(album / "a" / "one.wav", tmp_path / "Ünrelated náme.dat")
    build(album / "a" / "one.wav", tmp_path / "x", captions="tags,measured")
    build(tmp_path / "Ünrelated náme.dat", tmp_path / "y", captions="tags,measured")
    assert sample_bytes(tmp_path / "x") == sample_bytes(tmp_path / "y")
    # Not even a name that claims another format, nor a sidecar that is no use.
    shutil.copy(album / "a" / "one.wav", tmp_path / "claims.flac")
    (tmp_path / "claims.txt").write_bytes(b"")
    build(tmp_path / "claims.flac", tmp_path / "z", captions="sidecar,tags,measured")
    build(album / "a" / "one.wav", tmp_path / "w", captions="sidecar,tags,measured")
    assert sample_bytes(tmp_path / "z") == sample_bytes(tmp_path / "w")


def test_tracks_too_long_to_keep_in_memory_give_the_same_bytes(album, build, tmp_path, monkeypatch):
    options = {"captions": "measured", "lr": ["sinc:16000", "filters:2000-16000", "mp3:64"]}
    build(album / "a", tmp_path / "kept", **options)
    monkeypatch.setattr(source, "_CACHE_BYTES", 100_000)
    build(album / "a", tmp_path / "again", **options)
    assert sample_bytes(tmp_path / "kept") == sample_bytes(tmp_path / "again")


@given(
    samples=st.integers(1, 40_000),
    cuts=st.lists(st.integers(0, 40_000), max_size=5),
    lanes=st.integers(1, 3),
)
@settings(max_examples=40)
def test_windows_of_any_chopping_are_the_whole_encoding(mdct, samples, cuts, lanes):
    wave = np.random.default_rng(samples).standard_normal((lanes, samples)).astype(np.float32)
    windower = Windower(mdct, lanes)
    pieces = []
    full = mdct.window_frames - 2 * mdct.encode_context
    edges = sorted({0, samples, *(min(cut, samples) for cut in cuts)})
    windows = [
        (window.copy(), full)
        for start, end in itertools.pairwise(edges)
        for window in windower.push(wave[:, start:end])
    ]
    windows += [(window.copy(), frames) for window, frames in windower.flush()]
    for window, frames in windows:
        assert window.shape == (lanes, mdct.window_frames * mdct.hop)
        pieces.append(mdct.encode_windows(window)[:, :, :frames])
    np.testing.assert_array_equal(np.concatenate(pieces, axis=-1), encode(mdct, wave))


@pytest.mark.parametrize("samples", [1, 2, 511, 512, 513, 1023, 1024, 1025, 1535, 1536, 1537])
def test_the_shortest_tracks_are_whole(build, tmp_path, samples):
    import soundfile

    path = tmp_path / "in" / "x.wav"
    path.parent.mkdir()
    soundfile.write(path, music(1.0)[5000 : 5000 + samples] + 0.2, 44100, subtype="FLOAT")
    build(path, tmp_path / "out", val_fraction=0.0, lr=["sinc:16000", "filters:2000-16000"])
    (sample,) = open_samples(tmp_path / "out")[:]
    assert sample.metadata["samples"] == samples
    assert sample.frames == -(-samples // 512)
    assert all(array.shape == (1, 512, sample.frames) for array in sample.streams.values())


def test_m4a_is_read_where_pyav_is_installed_and_named_where_it_is_not(
    build, tmp_path, monkeypatch
):
    av = pytest.importorskip("av")
    path = tmp_path / "in" / "x.m4a"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        stream.layout = "stereo"
        audio = np.ascontiguousarray(music(2.0).T.astype(np.float32))
        for start in range(0, audio.shape[1], 1024):
            piece = np.ascontiguousarray(audio[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    build(path, tmp_path / "out", val_fraction=0.0)
    assert open_samples(tmp_path / "out")[0].metadata["source"]["decoder"] == "pyav"

    import sys

    from pipeline.tally import TooManyFailed

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(TooManyFailed):
        build(path, tmp_path / "without", val_fraction=0.0)
    outcome = build([path, write_music(tmp_path / "y.wav", 1.0)], tmp_path / "two", max_failed=0.5)
    (reason,) = outcome.tally.reasons["failed"]
    from shards.tables import LEDGER_SCHEMA, read_table

    rows = read_table(tmp_path / "two", "ledger.parquet", LEDGER_SCHEMA)
    assert any("jatsr[av]" in (row["hint"] or "") for row in rows), reason


@pytest.mark.slow
def test_a_build_with_the_dac_network(build, tmp_path, monkeypatch):
    """The real 76.6 M network with random weights, on audio and in windows short enough."""
    monkeypatch.setattr(registry, "_WINDOW_FRAMES", 64)
    monkeypatch.setattr(registry, "_BATCH_SIZE", {"cpu": 2})
    write_music(tmp_path / "in" / "a.wav", 1.1, 1)
    write_music(tmp_path / "in" / "b.flac", 0.3, 2)
    options = {
        "codec": "dac-44khz-untrained", "compile": False, "device": "cpu", "lr": ["sinc:16000"],
        "val_fraction": 0.0, "excerpt_seconds": 1.0,
    }  # fmt: skip
    build(tmp_path / "in", tmp_path / "out", **options)
    samples = open_samples(tmp_path / "out")[:]
    assert sum(s.metadata["samples"] for s in samples) == 48510 + 13230
    for sample in samples:
        assert sample.streams["hr"].shape == (1, 9, sample.frames)
        assert sample.streams["hr"].dtype == np.uint16
        assert sample.streams["hr"].max() < 1024
    assert samples[0].streams["hr"].nbytes < sample.frames * 9 * 2 * 4
    manifest = read_manifest(tmp_path / "out")
    assert manifest.codec["untrained"]
    silence = read_silence(tmp_path / "out", manifest)
    assert (silence.dtype, silence.shape) == (np.uint16, (9, 1))
    channels = {k: len(m.mean) for k, m in read_totals(tmp_path / "out", "train").items()}
    assert channels == {"hr": 1024, "lr0": 1024, "hr.projected": 72, "lr0.projected": 72}
    assert os.listdir(tmp_path / "out").count(".jatsr") == 0
