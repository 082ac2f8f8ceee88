"""Consistency with the low-res input, in audio: for codecs whose channels are not bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jatsr_model.losses.terms import Guess, low_and_cutoff, trusted_bands

WINDOW = 2048
TINY = 1e-4  # energy of a crop that counts as silence


@dataclass(frozen=True, kw_only=True)
class AudioConsistency:
    """Relative square difference of two decoded crops below the cutoff of the low-res signal.

    How long its gradient is against that of MSE depends on the decoder and on the crop's share of
    the sample, so its weight is not comparable to others: look at ``gradient_ratios``.

    Args:
        decode: normalised data latents ``[B, C, F]`` -> audio ``[B, F * hop]``, differentiable.
        hop: samples per frame.
        frames: length of the crop; decoding is what this loss costs.
        context: frames decoded on both sides and thrown away, so that edges do not count.
        generator: draws the place of the crop, on the CPU; None takes the middle. Where samples end
            before the others, the crop lies before the first end.
    """

    decode: Callable[[Tensor], Tensor]
    hop: int
    frames: int = 16
    context: int = 12
    generator: torch.Generator | None = None

    def __call__(self, guess: Guess) -> Tensor:
        """One value per sample, ``[B]``; 0 where both sound alike, 1 where one is silent.

        Raises:
            ConfigError: the batch has no low-res latents or no cutoff.
        """
        low, cutoff = low_and_cutoff(guess)
        frames = low.shape[-1] if guess.lengths is None else int(guess.lengths.min())
        start, length = self._crop(frames)
        found = self._spectrum(guess.data_hat[..., start : start + length])
        with torch.no_grad():
            wanted = self._spectrum(low[..., start : start + length])
        weights = trusted_bands(cutoff, found.shape[1])[..., None]
        error = (weights * (found - wanted).abs().square()).sum((1, 2))
        return error / (weights * wanted.abs().square()).sum((1, 2)).clamp(min=TINY)

    def _crop(self, frames: int) -> tuple[int, int]:
        length = min(self.frames + 2 * self.context, frames)
        room = frames - length
        if self.generator is None:
            return room // 2, length
        return int(torch.randint(room + 1, (), generator=self.generator)), length

    def _spectrum(self, latents: Tensor) -> Tensor:
        audio = self.decode(latents)
        edge = self.context * self.hop
        if audio.shape[-1] > 2 * edge:
            audio = audio[..., edge : audio.shape[-1] - edge]
        return torch.stft(
            audio,
            WINDOW,
            hop_length=WINDOW // 4,
            window=torch.hann_window(WINDOW, device=audio.device),
            pad_mode="constant",
            normalized=True,
            return_complex=True,
        )
