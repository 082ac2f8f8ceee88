"""Power spectra of two signals side by side, a few frames at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from shards.errors import JatsrError

FRAMES_AT_ONCE = 1024  # of all signals together: 4 MB of power at 2048 points


class ShortClipError(JatsrError):
    """A clip has fewer samples than one window."""


@dataclass(frozen=True)
class Stft:
    """Short-time spectra with a periodic Hann window, not normalised.

    Attributes:
        n_fft: points of a window.
        hop: samples from window to window.
        centred: whether windows are centred on multiples of the hop, the signal continued by zeros;
            otherwise only windows that lie inside the signal count.
    """

    n_fft: int = 2048
    hop: int = 512
    centred: bool = False

    @property
    def bins(self) -> int:
        """From 0 to half the rate."""
        return self.n_fft // 2 + 1

    @property
    def noise_power(self) -> float:
        """Power of a bin where every sample of the signal has variance 1."""
        return 0.375 * self.n_fft

    def pairs(
        self, reference: Tensor, estimate: Tensor, multiple: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Powers of both, block by block from front to back.

        Args:
            reference: ``[..., n]``; whatever is less precise than float32 is made float32.
            estimate: of the same shape.
            multiple: every block but the last has a multiple of so many frames.

        Yields:
            two tensors ``[..., bins, frames]``.

        Raises:
            ShortClipError: there is no frame.
            ValueError: the shapes differ.
        """
        if reference.shape != estimate.shape:
            raise ValueError(f"shapes differ: {[*reference.shape]} and {[*estimate.shape]}")
        first, second = self._ready(reference), self._ready(estimate)
        frames = (first.shape[-1] - self.n_fft) // self.hop + 1
        if frames < 1:
            raise ShortClipError(
                f"expected at least {self.n_fft} samples, found {reference.shape[-1]}",
                hint="a spectrum needs a whole window: leave this clip out, or take a longer one",
            )
        signals = max(1, first[..., 0].numel())
        step = max(1, FRAMES_AT_ONCE // signals // multiple) * multiple
        for start in range(0, frames, step):
            end = (min(start + step, frames) - 1) * self.hop + self.n_fft
            part = slice(start * self.hop, end)
            yield self._power(first[..., part]), self._power(second[..., part])

    def _ready(self, wave: Tensor) -> Tensor:
        precise = wave if wave.dtype == torch.float64 else wave.to(torch.float32)
        edge = self.n_fft // 2 if self.centred else 0
        return functional.pad(precise, (edge, edge)) if edge else precise

    def _power(self, wave: Tensor) -> Tensor:
        window = torch.hann_window(self.n_fft, dtype=wave.dtype, device=wave.device)
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = torch.stft(
                wave.reshape(-1, wave.shape[-1]),
                self.n_fft,
                self.hop,
                window=window,
                center=False,
                return_complex=True,
            )
        power = spectrum.real.square() + spectrum.imag.square()
        return power.reshape(*wave.shape[:-1], *power.shape[-2:])
