"""Normalised latents: compared with numpy over everything that a dataset holds."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import write_music
from reading import write_lengths

from jatsr_data import LatentDataset, LatentLoader, open_samples
from jatsr_data.normalise import Normaliser, Scale
from jatsr_model.codecs import CodecConfig, load, resolve
from shards.errors import ConfigError, FormatError
from shards.layout import STATISTICS
from shards.manifest import read_manifest
from shards.moments import Moments
from shards.statistics import shard_moments, write_statistics

MDCT = load(resolve(CodecConfig(name="mdct")))


@pytest.fixture(scope="module")
def tiny_dac():
    """Three codebooks of 1024 entries, as ``write_lengths`` draws codes for."""
    from transformers import DacConfig

    from jatsr_model.codecs.dac import DacCodec
    from jatsr_model.codecs.dac_network import build, untrained_state

    shape = DacConfig(
        encoder_hidden_size=2, downsampling_ratios=[2, 4, 8, 8], decoder_hidden_size=32,
        n_codebooks=3, codebook_size=1024, codebook_dim=8, sampling_rate=44_100,
    )  # fmt: skip
    spec = resolve(CodecConfig(name="dac-44khz-untrained", device="cpu", compile=False))
    spec = replace(spec, latent_dim=32, projected_dim=24, stored_rows=3)
    return DacCodec(build(shape, untrained_state(shape, 0), "random"), spec)


@pytest.fixture(scope="module")
def codes(tmp_path_factory, tiny_dac):
    """Stereo codes, two low-res variants, two shards, statistics in both spaces."""
    folder = tmp_path_factory.mktemp("codes")
    manifest = write_lengths(folder, [90, 40, 64], per_shard=2, channels=2)
    shards = manifest.splits["train"]
    streams = ("hr", "lr0", "lr1")
    moments = {s.name: shard_moments(folder / s.name, streams, tiny_dac.spaces) for s in shards}
    write_statistics(folder / STATISTICS, {"train": moments}, {})
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory, build):
    """Real coefficients in stereo."""
    root = tmp_path_factory.mktemp("music")
    for seed, seconds in enumerate((2.3, 1.1)):
        write_music(root / "in" / f"{seed}.wav", seconds, seed)
    build(root / "in", root / "out", channels="stereo", lr=["sinc:8000", "filters:2000-16000"],
          val_fraction=0.0)  # fmt: skip
    return root / "out"


@pytest.fixture(params=["mdct", "dac", "dac.projected"])
def case(request, music, codes, tiny_dac):
    """A dataset, its codec, a space and the mapping of it."""
    if request.param == "mdct":
        return music, MDCT, "latents", MDCT.latents
    if request.param == "dac":
        return codes, tiny_dac, "latents", tiny_dac.latents
    return codes, tiny_dac, "projected", tiny_dac.projected


def everything(dataset, mapping):
    """All latents of the split in float64 ``[D, n]``: high-res, and all low-res variants."""
    z = {}
    for sample in open_samples(dataset):
        for name, stored in sample.streams.items():
            found = mapping(torch.from_numpy(stored)).double().numpy()
            z.setdefault(name[:2], []).extend(found)
    return {name: np.concatenate(parts, axis=1) for name, parts in z.items()}


def test_the_scales_are_those_of_all_latents_together(case):
    dataset, codec, space, mapping = case
    norm = Normaliser.read(dataset, codec, space)
    for name, z in everything(dataset, mapping).items():
        scale = getattr(norm, name)
        assert scale.mean.shape == scale.std.shape == (len(z), 1)
        assert scale.mean.dtype == scale.std.dtype == torch.float32
        deviation = z.std(axis=1)
        expected = deviation if name == "hr" else np.maximum(deviation, norm.hr.std[:, 0].numpy())
        error = np.abs(scale.mean[:, 0].numpy() - z.mean(axis=1))
        assert (error <= 1e-6 * (deviation + np.abs(z.mean(axis=1)))).all()
        np.testing.assert_allclose(scale.std[:, 0].numpy(), expected, rtol=1e-6)
        normal = scale.apply(torch.from_numpy(z).float()).double().numpy()
        np.testing.assert_allclose(normal.mean(axis=1), 0, atol=1e-5)
        variance = (deviation / expected) ** 2  # 1, or less
        np.testing.assert_allclose(normal.var(axis=1), variance, rtol=1e-4)


def test_what_lies_above_the_cutoff_stays_small(music):
    """Rows of low-res signals that hold only residue are not blown up to unit variance."""
    norm = Normaliser.read(music, MDCT)
    z = everything(music, MDCT.latents)["lr"]
    assert (norm.lr.std >= norm.hr.std).all()
    deviation = norm.lr.apply(torch.from_numpy(z)).std(axis=1).numpy()
    assert deviation[:80] == pytest.approx(1, abs=0.2)  # below 3.4 kHz
    assert deviation[400:].max() < 0.25  # above 17.2 kHz


def test_faint_channels_are_not_blown_up():
    z = np.random.default_rng(0).standard_normal((3, 4000)) * [[2.0], [0.02], [1e-4]]
    scale = Scale.of(Moments.of(z.astype(np.float32)))
    largest = float(scale.std[0])
    expected = [z[0].std(), z[1].std(), 5e-3 * largest]
    assert scale.std[:, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_divide_by_nothing_else(std):
    with pytest.raises(FormatError, match="above 0"):
        Scale(torch.zeros(2), torch.tensor([1.0, std]))


def test_a_batch_becomes_two_tensors_that_can_be_undone(case):
    dataset, codec, space, mapping = case
    norm = Normaliser.read(dataset, codec, space)
    crops = LatentLoader(LatentDataset(dataset, crop_frames=32), 3)
    batch = next(iter(crops))
    for name, found in zip(("hr", "lr"), norm(batch), strict=True):
        scale, z = getattr(norm, name), mapping(getattr(batch, name))
        assert found.dtype == torch.float32
        assert found.shape == (3, 2, len(scale.mean), 32)
        expected = (z.double() - scale.mean.double()) / scale.std.double()
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
        rounding = 4e-7 * (z.abs() + scale.mean.abs() + scale.std)
        assert ((scale.invert(found) - z).abs() <= rounding).all()


def test_low_res_is_scaled_alike_whatever_is_read(codes, tiny_dac):
    whole = Normaliser.read(codes, tiny_dac)
    one = Normaliser.read(LatentDataset(codes, lr_variants=1, crop_frames=16), tiny_dac)
    assert torch.equal(whole.lr.mean, one.lr.mean)
    assert torch.equal(whole.lr.std, one.lr.std)
    assert not torch.equal(whole.lr.mean, whole.hr.mean)


def test_only_totals_are_read(music, tmp_path):
    shutil.copytree(music, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "train")
    (tmp_path / "out" / "samples.parquet").unlink()
    assert torch.equal(
        Normaliser.read(tmp_path / "out", MDCT).hr.std, Normaliser.read(music, MDCT).hr.std
    )


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4])
def test_a_channel_that_never_varies_becomes_zero(constant):
    rows = np.stack([np.full(1001, constant), np.random.default_rng(0).standard_normal(1001)])
    z = rows.astype(np.float32)
    scale = Scale.of(Moments.of(z))
    assert float(scale.std[1]) == pytest.approx(z[1].std(dtype=np.float64), rel=1e-6)
    assert scale.apply(torch.from_numpy(z))[0].abs().max() <= 1e-7 * abs(constant)
    alone = Scale.of(Moments.of(z[:1]))
    assert float(alone.std[0]) == 1
    assert not alone.apply(torch.from_numpy(z[:1])).any()


@pytest.mark.parametrize("through", ["torch", "json"])
def test_a_checkpoint_gives_the_same_normaliser(codes, tiny_dac, through):
    norm = Normaliser.read(codes, tiny_dac, "projected")
    if through == "torch":
        file = io.BytesIO()
        torch.save(norm.state(), file)
        state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    else:
        lists = {k: v if k == "space" else v.tolist() for k, v in norm.state().items()}
        state = json.loads(json.dumps(lists))
    again = Normaliser.from_state(state, tiny_dac)
    batch = next(iter(LatentLoader(LatentDataset(codes, crop_frames=16), 2)))
    assert again.space == "projected"
    for ours, theirs in zip(norm(batch), again(batch), strict=True):
        assert torch.equal(ours, theirs)


def test_tables_made_for_inference_serve_training(music):
    with torch.inference_mode():
        norm = Normaliser.read(music, MDCT)
        norm.hr.apply(torch.zeros(512, 1))
    z = torch.ones(512, 1, requires_grad=True)
    norm.hr.apply(z).sum().backward()
    assert torch.equal(z.grad, 1 / norm.hr.std)


@pytest.mark.parametrize("broken", [{}, {"hr.std": None}, {"hr.mean": [1.0]}, {"lr.mean": "x"}])
def test_what_is_no_state_is_refused(music, broken):
    state = {**Normaliser.read(music, MDCT).state(), **broken} if broken else {}
    with pytest.raises(FormatError, match=r"Normaliser\.state"):
        Normaliser.from_state(state, MDCT)


def test_spaces_that_a_codec_does_not_have(music, codes, tiny_dac):
    with pytest.raises(ConfigError, match="codec mdct has no projections"):
        Normaliser.read(music, MDCT, "projected")
    with pytest.raises(ConfigError, match="space='codes'"):
        Normaliser.read(codes, tiny_dac, "codes")
    with pytest.raises(FormatError, match=r"found none of hr\.projected"):
        Normaliser.read(music, tiny_dac, "projected")
    norm = Normaliser.read(codes, tiny_dac)
    with pytest.raises(ConfigError, match=r"\[\.\.\., 32, T\].*\[2, 2, 512, 16\]"):
        norm.lr.apply(torch.zeros(2, 2, 512, 16))


def test_a_dataset_without_training_samples_is_refused(codes, tiny_dac, tmp_path):
    shutil.copytree(codes, tmp_path / "out")
    manifest = read_manifest(codes)
    replace(manifest, splits={"train": (), "val": manifest.splits["train"]}).write(tmp_path / "out")
    write_statistics(tmp_path / "out" / STATISTICS, {}, {})
    with pytest.raises(ConfigError, match="'train' is empty"):
        Normaliser.read(tmp_path / "out", tiny_dac)
