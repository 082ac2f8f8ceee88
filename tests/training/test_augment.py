"""The same music in other shapes: both signals alike, as a function of the sample alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jatsr_data import Batch
from jatsr_model.chance import Chance
from jatsr_model.codecs.mdct import MdctCodec
from jatsr_model.training.augment import LOWEST_CUT, NO_CHANGE, UNSURE, Augment, gains, rolloffs
from shards.envelope import FFT_SIZE, HOP, rolloff

CROPS, ROWS, FRAMES = 6, 32, 5


def batch(hr: Tensor, lr: Tensor) -> Batch:
    count = len(hr)
    return Batch(
        hr=hr, lr=lr, rolloff_hr=torch.ones(count), rolloff_lr=torch.ones(count),
        cutoff=torch.full((count,), 0.5),
        start=torch.zeros(count, dtype=torch.int64),
        frames=torch.full((count,), hr.shape[-1]), variant=torch.zeros(count, dtype=torch.int64),
        caption=("",) * count, key=tuple(map(str, range(count))),
    )  # fmt: skip


def music(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CROPS, 2, ROWS, FRAMES, generator=generator).half()


def test_both_signals_are_changed_alike_and_by_the_sample_alone() -> None:
    augment = Augment(0.3)
    data = music()
    found = augment(batch(data, data), Chance(0, 7, range(CROPS)))
    assert torch.equal(found.hr, found.lr)
    assert found.hr.dtype == data.dtype
    assert not torch.equal(found.hr, data)
    part = augment(batch(data[2:], data[2:]), Chance(0, 7, range(2, CROPS)))
    assert torch.equal(part.hr, found.hr[2:])
    other = augment(batch(data, data), Chance(0, 8, range(CROPS)))
    assert not torch.equal(other.hr, found.hr)
    told = torch.stack([found.rolloff_hr, found.rolloff_lr])
    assert torch.equal(told, rolloffs(found.hr).expand(2, -1))
    assert not torch.equal(told[0], rolloffs(data))


def test_a_cut_takes_the_top_of_the_input_and_tells_where() -> None:
    data, crops = music().repeat(20, 1, 1, 1), 20 * CROPS
    found = Augment(cut=0.5)(batch(data, data), Chance(0, 7, range(crops)))
    assert torch.equal(found.hr, data)
    kept = (found.lr != 0).any(3).any(1).sum(1)  # rows
    cut = kept < ROWS
    assert 0.3 < cut.float().mean() < 0.7
    same = found.lr == data
    for crop in range(crops):
        assert same[crop, :, : kept[crop]].all()
    told = found.cutoff * ROWS
    assert (told <= torch.minimum(kept, torch.tensor(ROWS / 2)) + 1e-4).all()
    assert (told >= (1 - UNSURE) * torch.minimum(kept - 1, torch.tensor(ROWS / 2)) - 1e-4).all()
    assert (found.cutoff >= (1 - UNSURE) * LOWEST_CUT - 1e-6).all()
    assert torch.equal(found.rolloff_hr, rolloffs(data))
    assert (found.rolloff_lr * ROWS <= kept).all()


def test_music_that_ends_early_has_nothing_above_on_either_side() -> None:
    data, crops = music().repeat(20, 1, 1, 1), 20 * CROPS
    found = Augment(end=0.5)(batch(data, data), Chance(0, 7, range(crops)))
    assert torch.equal(found.hr, found.lr)
    kept = (found.hr != 0).any(3).any(1).sum(1)
    early = kept < ROWS
    assert 0.3 < early.float().mean() < 0.7
    assert (kept[early] <= ROWS // 2).all()
    assert (kept[early] >= ROWS // 4).all()
    assert torch.equal(found.cutoff, torch.full((crops,), 0.5))
    assert (found.rolloff_hr * ROWS <= kept).all()


def test_nothing_is_changed_unasked() -> None:
    data = music()
    found = NO_CHANGE(batch(data, data), Chance(0, 0, range(CROPS)))
    assert found.hr is data
    assert (found.rolloff_hr == 1).all()  # as they were told


@pytest.mark.parametrize("edge", [1500.0, 6000.0, 14_000.0])
def test_roll_offs_are_those_of_spectra(edge: float) -> None:
    """Of noise that falls by 12 dB per octave above an edge, and of a transform of its own."""
    rng = np.random.default_rng(0)
    hertz = np.fft.rfftfreq(4 * 44_100, 1 / 44_100)
    spectrum = np.fft.rfft(rng.standard_normal(4 * 44_100)) / (1 + (hertz / edge) ** 2)
    wave = np.fft.irfft(spectrum).astype(np.float32)
    codec = MdctCodec()
    frames = codec.encode_windows(wave[None, : len(wave) // codec.hop * codec.hop])
    windows = np.lib.stride_tricks.sliding_window_view(wave, FFT_SIZE)[::HOP]
    magnitudes = np.abs(np.fft.rfft(windows * np.hanning(FFT_SIZE))).sum(0)
    (found,) = rolloffs(torch.from_numpy(frames)[None])
    assert abs(float(found) - rolloff(magnitudes)) < 0.02
    assert rolloffs(torch.zeros(1, 1, ROWS, FRAMES)) == 0


def test_gains_have_the_strength_that_was_asked_for_and_are_smooth() -> None:
    found = gains(Chance(0, 0, range(4000)), 64, 0.1).log()
    assert found.mean().abs() < 0.01
    assert 0.1 < found.std() < 0.25
    assert found.diff(dim=1).abs().max() < 0.08
    assert torch.equal(gains(Chance(0, 0, range(2)), 8, 0.0), torch.ones(2, 8))
