"""SI-SDR, spectral convergence, levels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jatsr_model.metrics import si_sdr, spectral_convergence
from jatsr_model.metrics.waves import levels

TIME = torch.arange(44100, dtype=torch.float64) / 44100
SINE, COSINE = torch.sin(2 * torch.pi * 100 * TIME), torch.cos(2 * torch.pi * 100 * TIME)


@pytest.mark.parametrize(("share", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0)])
@pytest.mark.parametrize("scale", [-3.0, 0.5, 1.0])
def test_si_sdr_of_an_orthogonal_error(share, decibels, scale):
    """Sine and cosine are orthogonal and of one energy: the ratio is that of their factors."""
    estimate = scale * (SINE + share * COSINE) + 0.25
    assert float(si_sdr(SINE, estimate)) == pytest.approx(decibels, abs=1e-4)


def test_si_sdr_ends_at_its_limits():
    assert float(si_sdr(SINE, 0.1 * SINE)) == pytest.approx(100, abs=0.1)
    assert float(si_sdr(SINE, COSINE)) == pytest.approx(-100, abs=0.1)
    assert float(si_sdr(SINE, 0 * SINE)) == -100
    assert math.isnan(float(si_sdr(0 * SINE, SINE)))


@settings(max_examples=20)
@given(samples=st.integers(2, 5000), shape=st.sampled_from([(), (1,), (3,), (2, 2)]))
def test_si_sdr_keeps_leading_dimensions(samples, shape):
    random = torch.Generator().manual_seed(samples)
    wave = torch.randn(*shape, samples, generator=random)
    found = si_sdr(wave, wave)
    assert found.shape == shape
    assert (found > 99).all()


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 3.0])
def test_spectral_convergence_of_a_gain(gain):
    wave = torch.randn(2, 9000, generator=torch.Generator().manual_seed(1))
    found = spectral_convergence(wave, gain * wave)
    torch.testing.assert_close(found, torch.full((2,), abs(1 - gain)).double(), atol=1e-6, rtol=0)


def test_spectral_convergence_to_silence_is_not_defined():
    wave = torch.randn(4000)
    assert math.isnan(float(spectral_convergence(0 * wave, wave)))


def test_levels_are_those_of_the_standard():
    """BS.1770: a sine of 997 Hz at full scale in one channel has -3.01 LUFS."""
    sine = torch.sin(2 * torch.pi * 997 * torch.arange(96000, dtype=torch.float64) / 48000)
    full, tenth, silence = (levels(gain * sine, 48000) for gain in (1, 0.1, 0))
    assert full.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert full.lufs == pytest.approx(-3.01, abs=0.05)
    assert tenth.lufs == pytest.approx(-23.01, abs=0.05)
    assert silence.lufs == silence.rms_dbfs == -math.inf
