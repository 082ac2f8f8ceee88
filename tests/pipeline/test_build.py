"""A build end to end: contents, identity, stock readers."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
import soundfile
from helpers import sample_bytes, shard_bytes, write_music
from tiny_models import save_tiny_model

from jatsr_data import open_samples
from jatsr_model.codecs import CodecConfig, encode, load, resolve
from shards.layout import LEDGER, SAMPLES
from shards.manifest import read_manifest
from shards.statistics import Moments, read_totals
from shards.tables import LEDGER_SCHEMA, SAMPLES_SCHEMA, read_table
from shards.tar import load_npy
from shards.verify import verify


@pytest.fixture(scope="module")
def mdct():
    return load(resolve(CodecConfig(name="mdct")))


def problems(dataset, spaces):
    return [p for checked in verify(dataset, spaces) for p in checked.problems]


def test_a_build_is_complete_and_verifies(album, build, tmp_path, mdct):
    outcome = build(album, tmp_path / "out", val_fraction=0.3)
    assert outcome.changed
    assert dict(outcome.tally.results) == {"ok": 9}
    assert problems(tmp_path / "out", mdct.spaces) == []
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "dataset.json", "ledger.parquet", "samples.parquet", "silence.npy", "stats.zarr",
        "train", "val",
    ]  # fmt: skip
    ledger = read_table(tmp_path / "out", LEDGER, LEDGER_SCHEMA)
    assert sum(row["excerpts"] for row in ledger) == len(sample_bytes(tmp_path / "out"))


@pytest.mark.parametrize("channels", ["mono", "stereo"])
def test_excerpts_of_a_track_are_the_encoding_of_the_whole_track(build, tmp_path, mdct, channels):
    path = write_music(tmp_path / "in" / "x.wav", 5.3, seed=3)
    build(path, tmp_path / "out", loudness="off", channels=channels, val_fraction=0.0)
    samples = open_samples(tmp_path / "out")[:]
    assert [s.metadata["excerpt"] for s in samples] == [0, 1, 2]
    hr = np.concatenate([s.streams["hr"] for s in samples], axis=-1)
    audio, _ = soundfile.read(path, dtype="float32", always_2d=True)
    wave = audio.T if channels == "stereo" else audio.mean(axis=1, dtype=np.float32)[None]
    np.testing.assert_array_equal(hr, encode(mdct, np.ascontiguousarray(wave)))
    last = samples[-1].metadata
    assert last["start_frame"] + last["frames"] == last["track_frames"] == hr.shape[-1]
    assert sum(s.metadata["samples"] for s in samples) == audio.shape[0]


def test_low_res_streams_are_aligned_and_lack_what_lies_above_the_cutoff(build, tmp_path):
    write_music(tmp_path / "in" / "x.wav", 4.0, seed=5)
    build(tmp_path / "in", tmp_path / "out", lr=["sinc:16000"], val_fraction=0.0)
    sample = open_samples(tmp_path / "out")[0]
    hr, lr = (sample.streams[s].astype(np.float64) for s in ("hr", "lr0"))
    bins = np.arange(512) * 22050 / 512
    passband, stopband = bins < 7000, bins > 8500
    # MDCT coefficients are time-aligned to the sample: a shift of one would show at once.
    error = np.abs(hr[:, passband] - lr[:, passband]).mean() / np.abs(hr[:, passband]).mean()
    assert error < 0.02
    assert np.square(lr[:, stopband]).mean() < 1e-2 * np.square(hr[:, stopband]).mean()
    assert sample.metadata["rolloff"]["lr0"] < 8100 / 22050 < 1


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_a_byte(album, build, tmp_path):
    reference = None
    for workers in (0, 3):
        build(album, tmp_path / str(workers), workers=workers, shard_hours=0.002, val_fraction=0.3)
        shards = shard_bytes(tmp_path / str(workers))
        assert len(shards) > 3
        reference = reference or shards
        assert shards == reference


def test_locale_timezone_umask_and_hash_seed_do_not_change_a_byte(album, build, tmp_path):
    import subprocess
    import sys

    build(album, tmp_path / "here", captions="tags,measured")
    environment = {**os.environ, "LC_ALL": "C", "TZ": "Asia/Kolkata", "PYTHONHASHSEED": "7"}
    command = [
        sys.executable, "-c", "import os, cli; os.umask(0o077); cli.main()", "build", str(album),
        str(tmp_path / "there"), "--workers", "0", "--captions", "tags,measured",
        "--excerpt-seconds", "2",
    ]  # fmt: skip
    subprocess.run(command, check=True, env=environment, capture_output=True)
    assert shard_bytes(tmp_path / "here") == shard_bytes(tmp_path / "there")
    for path in (tmp_path / "there").glob("*/*.tar"):
        assert os.stat(path).st_size > 0


# webdataset leaves its last file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stock_webdataset_reads_the_shards(album, build, tmp_path):
    wds = pytest.importorskip("webdataset")
    build(album, tmp_path / "out", val_fraction=0.0)
    urls = sorted(str(p) for p in (tmp_path / "out" / "train").glob("*.tar"))
    rows = {r["key"]: r for r in read_table(tmp_path / "out", SAMPLES, SAMPLES_SCHEMA)}
    seen = set()
    for sample in wds.WebDataset(urls, shardshuffle=False):
        row = rows[sample["__key__"]]
        metadata = json.loads(sample["json"])
        hr = np.load(io.BytesIO(sample["hr.npy"]))
        assert hr.shape == (1, 512, row["frames"])
        assert np.load(io.BytesIO(sample["lr1.npy"])).shape == hr.shape
        assert metadata["track"] == row["track"]
        assert sample["txt"].decode() == row["caption"]
        seen.add(sample["__key__"])
    assert seen == set(rows)


def test_stock_pyarrow_and_zarr_open_the_rest(album, build, tmp_path, mdct):
    pq = pytest.importorskip("pyarrow.parquet")
    build(album, tmp_path / "out", val_fraction=0.3)
    table = pq.read_table(tmp_path / "out" / SAMPLES)
    assert table.num_rows == sum(e.samples for e in read_manifest(tmp_path / "out").shards)
    # Statistics are of the training split alone and are what the latents give.
    total = read_totals(tmp_path / "out", "train")
    members = sample_bytes(tmp_path / "out")
    train = [r["key"] for r in table.to_pylist() if r["split"] == "train"]
    assert 0 < len(train) < table.num_rows
    for stream in ("hr", "lr0", "lr1"):
        values = [mdct.latents_array(load_npy(members[k][f"{stream}.npy"])) for k in train]
        assert total[stream].same_as(Moments.of(np.concatenate(values, axis=-1)))


def test_loudness_is_one_recorded_gain_that_can_be_undone(build, tmp_path, mdct):
    path = write_music(tmp_path / "in" / "x.wav", 3.0)
    build(path, tmp_path / "a", loudness="off", val_fraction=0.0, excerpt_seconds=60)
    build(path, tmp_path / "b", loudness=-23, val_fraction=0.0, excerpt_seconds=60)
    plain, level = open_samples(tmp_path / "a")[0], open_samples(tmp_path / "b")[0]
    gain = level.metadata["gain"]
    assert plain.metadata["gain"] == 1.0
    assert abs(20 * np.log10(gain) - (-23 - level.metadata["loudness_lufs"])) < 1e-3
    one = np.asarray(mdct.latents_array(plain.streams["hr"]), np.float64)
    two = np.asarray(mdct.latents_array(level.streams["hr"]), np.float64)
    change = np.sign(two) * two**2 - np.sign(one) * one**2 * gain
    assert np.abs(change).max() < 2e-3 * np.abs(one).max() ** 2 * gain


def test_every_degradation_and_caption_source_in_one_build(build, tmp_path, mdct):
    path = write_music(tmp_path / "in" / "x.flac", 2.5)
    path.with_suffix(".txt").write_text("A made-up piece.")
    specs = ["sinc:8000", "filters:2000-16000", "mp3:64", "opus:32", "vorbis:64"]
    build(path.parent, tmp_path / "out", lr=specs, lr_variants=2, captions="sidecar,measured",
          val_fraction=0.0)  # fmt: skip
    sample = open_samples(tmp_path / "out")[0]
    assert list(sample.streams) == ["hr", *(f"lr{k}" for k in range(6))]
    assert [p["kind"] for p in sample.metadata["lr"]] == [
        "sinc", "filters", "filters", "lossy", "lossy", "lossy",
    ]  # fmt: skip
    assert sample.metadata["lr"][1] != sample.metadata["lr"][2]
    assert (sample.caption, sample.metadata["caption_source"]) == ("A made-up piece.", "sidecar")
    assert problems(tmp_path / "out", mdct.spaces) == []


def test_a_file_changed_during_the_build_fails_alone(build, tmp_path, monkeypatch):
    from pipeline import graph

    write_music(tmp_path / "in" / "a.wav", 1.0, 1)
    victim = write_music(tmp_path / "in" / "b.wav", 1.0, 2)
    real = graph.os.stat

    def changed(path, *args, **kwargs):
        info = real(path, *args, **kwargs)
        if str(path) == str(victim):
            return os.stat_result((*info[:6], info.st_size + 1, *info[7:10]))
        return info

    monkeypatch.setattr(graph, "os", type("os", (), {"stat": staticmethod(changed)}))
    outcome = build(tmp_path / "in", tmp_path / "out", max_failed=0.9)
    assert dict(outcome.tally.results) == {"ok": 1, "failed": 1}


def test_a_captioning_model_speaks_for_tracks_without_other_text_and_is_asked_once(
    build, tmp_path, monkeypatch
):
    from pipeline.captions import run as captions_run

    save_tiny_model(tmp_path / "model")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_music(tmp_path / "in" / "a.wav", 1.5, 1)
    (tmp_path / "in" / "a.txt").write_text("Words of its own.")
    write_music(tmp_path / "in" / "b.wav", 1.5, 2)
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF....WAVE")
    chain = f"sidecar,qwen2-audio:{tmp_path / 'model'}"
    build(
        tmp_path / "in",
        tmp_path / "out",
        captions=chain,
        val_fraction=0.0,
        device="cpu",
        max_failed=0.5,
    )
    samples = {s.metadata["caption_source"]: s for s in open_samples(tmp_path / "out")[:]}
    assert set(samples) == {"sidecar", "qwen2-audio"}
    assert samples["qwen2-audio"].caption
    model = read_manifest(tmp_path / "out").config["captions"]["model"]
    assert len(model["sha256"]) == 64
    # A second dataset takes the caption from the cache, though the model is elsewhere now.
    (tmp_path / "model").rename(tmp_path / "moved")
    monkeypatch.setattr(captions_run, "_caption", lambda *_: pytest.fail("asked again"))
    chain = f"sidecar,qwen2-audio:{tmp_path / 'moved'}"
    build(
        tmp_path / "in",
        tmp_path / "two",
        captions=chain,
        val_fraction=0.0,
        device="cpu",
        max_failed=0.5,
    )
    assert sample_bytes(tmp_path / "two") == sample_bytes(tmp_path / "out")
