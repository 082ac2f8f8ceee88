"""What can be had without learning: rivals that a model has to beat.

Both keep the input below a cutoff and put Gaussian noise of an envelope above it: spectra of 2048
samples every 512, levels as mean logarithms of power.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jatsr_model.metrics.log_spectral import POWER_FLOOR, STANDARD

N_FFT, HOP = STANDARD.n_fft, STANDARD.hop
BAND = 8  # bins, 172 Hz at 44.1 kHz, that have one level in ``filled_with_noise``
_LOG_MEAN = -0.5772156649 / math.log(10)  # of the power of complex normal numbers of power 1
_STEEPEST = -2.4  # log10 power per octave, 24 dB


def filled_with_noise(low: Tensor, reference: Tensor, cutoff: float, seed: int = 0) -> Tensor:
    """The envelope of the reference itself, filled with noise: the texture is lost, no more.

    Args:
        low: float ``[n]``, what is kept below the cutoff.
        reference: float ``[n]``.
        cutoff: as a share of the Nyquist frequency.
        seed: of the noise.
    """
    levels = _levels(_spectrum(reference))
    whole = levels[: N_FFT // 2].reshape(-1, BAND, levels.shape[1]).mean(1)
    envelope = torch.cat([whole.repeat_interleave(BAND, 0), whole[-1:]])
    return _joined(low, envelope, cutoff, seed)


def extrapolated(low: Tensor, cutoff: float, seed: int = 0) -> Tensor:
    """The envelope of the input, continued as a straight line over the logarithm of frequency.

    The slope is that of the mean level over the two octaves below the cutoff, the level that of the
    third of an octave below it, frame by frame.

    Args:
        low: float ``[n]``.
        cutoff: where it ends, as a share of the Nyquist frequency.
        seed: of the noise.
    """
    levels = _levels(_spectrum(low))
    top = int(cutoff * (N_FFT // 2))
    octaves = torch.log2(torch.arange(1, len(levels) + 1) / top)
    below = slice(max(top // 4, 1), top)
    x, y = octaves[below], levels[below].mean(1)
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    near = levels[int(top / 2 ** (1 / 3)) : top].mean(0)
    envelope = near + min(max(slope, _STEEPEST), 0.0) * (octaves[:, None] + 1 / 6)
    return _joined(low, envelope, cutoff, seed)


def _joined(low: Tensor, envelope: Tensor, cutoff: float, seed: int) -> Tensor:
    noise = torch.randn(len(low), generator=torch.Generator().manual_seed(seed))
    made = _spectrum(noise) * 10 ** (envelope / 2)
    made = made / math.sqrt(float(_window().square().sum()) * 10**_LOG_MEAN)
    split = math.ceil(cutoff * (N_FFT // 2))
    joined = torch.cat([_spectrum(low)[:split], made[split:]])
    return torch.istft(joined, N_FFT, HOP, window=_window(), length=len(low))


def _levels(spectrum: Tensor) -> Tensor:
    return spectrum.abs().square().clamp(min=POWER_FLOOR).log10()


def _spectrum(wave: Tensor) -> Tensor:
    return torch.stft(wave.float(), N_FFT, HOP, window=_window(), return_complex=True)


def _window() -> Tensor:
    return torch.hann_window(N_FFT)
