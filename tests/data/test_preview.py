"""``jatsr preview``: the table is what a loader gives, the files are what the shards hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from helpers import write_music
from PIL import Image
from reading import write_lengths

from jatsr_data import LatentDataset, LatentLoader, open_samples
from jatsr_model.codecs import CodecConfig, load, resolve
from jatsr_model.commands.preview import preview
from shards.errors import ConfigError, EnvironmentFailure
from shards.manifest import read_manifest
from shards.storage import open_store

CROP, HOP = 48, 512


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, build):
    """Three pieces in stereo, one of them shorter than a crop."""
    root = tmp_path_factory.mktemp("preview")
    for seed, seconds in enumerate((1.9, 1.5, 0.25)):
        write_music(root / "in" / f"{seed}.wav", seconds, seed)
        (root / "in" / f"{seed}.txt").write_text(f"piece {seed}, " + "long " * 30)
    build(root / "in", root / "out", channels="stereo", captions="sidecar", val_fraction=0.0)
    return root / "out"


def run(*arguments):
    done = CliRunner().invoke(preview, [*map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def facts(dataset, *arguments):
    return json.loads(run(dataset, "--crop-frames", CROP, "--json", *arguments))


def test_rows_are_the_crops_of_the_epoch_in_its_order(dataset):
    found = facts(dataset, "-n", 1000, "--epoch", 3, "--seed", 5)
    data = LatentDataset(dataset, crop_frames=CROP, seed=5)
    loader = LatentLoader(data, 1)
    loader.set_epoch(3)
    batches = list(loader)
    assert found["crops"] == len(found["first"]) == len(batches) > 5
    assert found["excerpts"] == len(open_samples(dataset)) == 3
    samples = {sample.key: sample for sample in open_samples(dataset)}
    for row, batch in zip(found["first"], batches, strict=True):
        sample, start = samples[row["key"]], int(batch.start[0])
        assert row["key"] == batch.key[0]
        assert row["start_seconds"] == pytest.approx(start * HOP / 44100)
        assert row["seconds"] == pytest.approx(row["frames"] * HOP / 44100)
        assert row["frames"] == min(CROP, sample.frames)
        for name, stream in (("hr", "hr"), ("lr", f"lr{row['variant']}")):
            rolloff = sample.rolloff(stream, start, row["frames"])
            assert row[f"rolloff_{name}_hz"] == pytest.approx(rolloff * 22050)
        assert row["low_res"] == ["sinc:16000", "filters:2000-16000"][row["variant"]]
        assert row["caption"] == sample.caption
    assert {row["variant"] for row in found["first"]} == {0, 1}


def test_the_table_says_the_same_in_short(dataset):
    text, found = run(dataset, "--crop-frames", CROP, "-n", 3), facts(dataset, "-n", 3)
    header, *rows, last = text.splitlines()
    assert "roll-off" in header
    assert len(rows) == 3
    for line, row in zip(rows, found["first"], strict=True):
        assert row["key"] in line
        assert f"{row['rolloff_lr_hz'] / 1000:.2f} kHz" in line
        assert f"lr{row['variant']} {row['low_res']}" in line
        assert line.endswith("long ...")
    assert f"{found['crops']} crops" in last
    assert "3 excerpts" in last


def test_variants_and_splits_are_those_asked_for(dataset):
    every = facts(dataset, "-n", 1000, "--lr-variants", "all")
    assert every["crops"] == 2 * facts(dataset)["crops"]
    second = facts(dataset, "-n", 1000, "--lr-variants", "1")
    assert {row["variant"] for row in second["first"]} == {1}
    with pytest.raises(ConfigError, match="lr_variants='2'"):
        facts(dataset, "--lr-variants", "2")
    with pytest.raises(ConfigError, match="'val' is empty"):
        facts(dataset, "--split", "val")


def test_saved_sounds_are_what_the_shards_decode_to(dataset, tmp_path):
    rows = facts(dataset, "-n", 1000, "--save", tmp_path / "new" / "folder")["first"]
    codec = load(resolve(CodecConfig(name="mdct")))
    samples = {sample.key: sample for sample in open_samples(dataset)}
    assert {row["frames"] for row in rows} >= {CROP}
    assert min(row["frames"] for row in rows) < CROP
    for row in rows:
        start = round(row["start_seconds"] * 44100)
        for name, stream in (("hr.wav", "hr"), ("lr.wav", f"lr{row['variant']}")):
            (path,) = [file for file in row["files"] if file.endswith(name)]
            wave, rate = soundfile.read(tmp_path / "new" / "folder" / path, dtype="float32")
            assert (rate, wave.shape) == (44100, (row["frames"] * HOP, 2))
            stored = torch.from_numpy(samples[row["key"]].streams[stream])
            whole = codec.decode(codec.latents(stored))[:, start : start + len(wave)].numpy()
            np.testing.assert_allclose(wave[HOP:-HOP], whole.T[HOP:-HOP], atol=1e-6)
    saved = sorted(file for row in rows for file in row["files"])
    assert saved == sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert len(saved) == 3 * len(rows)


def test_saved_pictures_show_more_of_the_high_res_signal(dataset, tmp_path):
    (row,) = facts(dataset, "-n", 1, "--lr-variants", "0", "--save", tmp_path)["first"]
    image = Image.open(tmp_path / row["files"][-1])
    light = np.asarray(image.convert("L"), float)
    above, below = np.split(light, 2)
    part = slice(50, 140), slice(60, 800)  # between 12 and 20 kHz, where sinc:16000 leaves nothing
    assert above[part].mean() > 40
    assert below[part].mean() < 10


def test_without_weights_the_table_works_and_saving_says_what_is_missing(
    dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JATSR_DAC_WEIGHTS", raising=False)
    shutil.copytree(dataset, tmp_path / "dac")
    manifest = read_manifest(dataset)
    codec = {**manifest.codec, "name": "dac-44khz", "weights_sha256": "0" * 64}
    replace(manifest, config={**manifest.config, "codec": codec}).write(tmp_path / "dac")
    assert len(facts(tmp_path / "dac")["first"]) == 4
    with pytest.raises(ConfigError) as error:
        facts(tmp_path / "dac", "--save", tmp_path / "saved")
    assert "codec fetch" in error.value.hint
    assert not (tmp_path / "saved").exists()


def test_a_folder_that_cannot_be_written_to_is_named(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match=r"--save .*file/inside"):
        facts(dataset, "--save", tmp_path / "file" / "inside")


def test_keys_do_not_lead_out_of_the_folder(tmp_path):
    """Whoever made the dataset chose its keys."""
    from jatsr_data import Batch
    from jatsr_model.commands.preview_files import Saver

    codec, silence = load(resolve(CodecConfig(name="mdct"))), torch.zeros(512, 1)
    stored, number = torch.zeros(1, 1, 512, 2), torch.ones(1)
    batch = Batch(
        stored, stored, number, number, number, number, number, number, ("",), ("../../x",)
    )
    row = {"key": "../../x", "frames": 2, "start_seconds": 0.0, "variant": 0, "low_res": "sinc",
           "rolloff_hr_hz": 1.0, "rolloff_lr_hz": 1.0}  # fmt: skip
    Saver(codec, silence, tmp_path / "a" / "b").save(0, batch, row)
    assert {path.parent.name for path in tmp_path.rglob("*.*")} == {"b"}


def test_a_bucket_is_previewed_like_a_folder(tmp_path, bucket, monkeypatch):
    monkeypatch.setenv("JATSR_CACHE", str(tmp_path / "cache"))
    write_lengths(tmp_path / "out", [90, 40, 64])
    store = open_store(bucket).child("set")
    store.put_tree(tmp_path / "out", "")
    here, there = facts(tmp_path / "out"), facts(store.url)
    assert there.pop("dataset") == store.url
    assert here.pop("dataset") == str(tmp_path / "out")
    assert here == there
