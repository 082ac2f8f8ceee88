"""The Descript Audio Codec: waveforms <-> nine codes per frame <-> 1024-channel latents.

Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN" (2023). The network is
transformers' ``DacModel``; its encoder runs in the faster arrangement of ``dac_encoder``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jatsr_model.codecs.base import Side
from jatsr_model.codecs.dac_encoder import FlatEncoder, compiled
from jatsr_model.codecs.dac_tables import Tables, tables_of
from jatsr_model.codecs.spec import CodecSpec
from shards.layout import PROJECTED

if TYPE_CHECKING:
    from transformers import DacModel

    from shards.statistics import Spaces

# What one frame depends on, rounded up to frames. Encoder: 3733 samples on each side (8 frames
# are 4096); decoder: 10 latents. Tests compare windows with this context to whole signals.
ENCODE_CONTEXT = 8
DECODE_CONTEXT = 12


class DacCodec:
    """DAC behind the ``Codec`` protocol. A signal continues beyond its ends as digital silence.

    The network only ever sees batches of ``batch_size`` windows of ``window_frames`` frames,
    whatever is asked for: so a window's codes depend on nothing but the window.

    Args:
        model: the network, in evaluation mode, on the CPU.
        spec: names, device, precision, compilation, window and batch size.
    """

    def __init__(self, model: DacModel, spec: CodecSpec) -> None:
        self.name = spec.name
        self.sample_rate = spec.sample_rate
        self.hop = spec.hop
        self.latent_dim = spec.latent_dim
        self.stored_rows = spec.stored_rows
        self.stored_dtype: np.dtype[Any] = np.dtype(spec.stored_dtype)
        self.encode_context = spec.encode_context
        self.decode_context = spec.decode_context
        self.window_frames = spec.window_frames
        self.batch_size = spec.batch_size
        self.identity: Mapping[str, Any] = spec.identity
        self.device = torch.device(spec.device)
        # Made on the CPU, wherever the network runs: statistics must not depend on the device.
        self._tables = {torch.device("cpu"): tables_of(model)}
        self.model = model.to(self.device)
        self._spec = spec

    @cached_property
    def _encoder(self) -> Callable[[Tensor], Tensor]:
        """Built when first used: who only needs latents or sound compiles nothing."""
        dtype = torch.bfloat16 if self._spec.precision == "bf16" else torch.float32
        flat = FlatEncoder(self.model.encoder, dtype).to(self.device).eval()
        if not self._spec.compile:
            return flat
        example = torch.zeros(self.batch_size, self.window_frames * self.hop, device=self.device)
        with _exact_kernels():
            return compiled(flat, example)

    def extend(self, edge: NDArray[np.float32], side: Side) -> NDArray[np.float32]:
        """Digital silence, on both sides."""
        del side
        return np.zeros_like(edge)

    @torch.inference_mode()
    def features(self, waves: NDArray[np.float32]) -> Tensor:
        """What the quantiser sees.

        Args:
            waves: float32 ``[B, frames * hop]`` with context, as for ``encode_windows``.

        Returns:
            float32 ``[B, latent_dim, frames - 2 * encode_context]`` on the codec's device.
        """
        return self._over_windows(waves, self._features)

    @torch.inference_mode()
    def encode_windows(self, waves: NDArray[np.float32]) -> NDArray[np.uint16]:
        """``[B, frames * hop]`` -> uint16 codes ``[B, 9, frames - 2 * encode_context]``."""
        codes = self._over_windows(waves, lambda batch: self.quantise(self._features(batch)))
        return codes.cpu().numpy().astype(np.uint16)

    @torch.inference_mode()
    def quantise(self, features: Tensor) -> Tensor:
        """Nearest codes, always searched in float32: ``[B, latent_dim, T]`` -> ``[B, rows, T]``."""
        with _exact_kernels():
            codes: Tensor = self.model.quantizer(features.float())[1]
        return codes

    def _over_windows(self, waves: NDArray[np.float32], step: Callable[[Tensor], Tensor]) -> Tensor:
        """Run ``step`` on batches of the one fixed shape and join what it returns."""
        frames = waves.shape[-1] // self.hop - 2 * self.encode_context
        core = self.window_frames - 2 * self.encode_context
        starts = range(0, frames, core)
        windows = [self._window(wave, start) for wave in waves for start in starts]
        pieces = []
        for first in range(0, len(windows), self.batch_size):
            taken = windows[first : first + self.batch_size]
            batch = np.zeros((self.batch_size, self.window_frames * self.hop), np.float32)
            batch[: len(taken)] = taken
            pieces.append(step(torch.from_numpy(batch).to(self.device))[: len(taken)])
        joined = torch.cat(pieces)  # [B * windows, rows, core]
        lanes = joined.reshape(waves.shape[0], len(starts), *joined.shape[1:])
        whole: Tensor = lanes.transpose(1, 2).flatten(2)
        return whole[..., :frames]

    def _window(self, wave: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        piece = wave[start * self.hop : (start + self.window_frames) * self.hop]
        return np.pad(piece, (0, self.window_frames * self.hop - len(piece)))

    def _features(self, batch: Tensor) -> Tensor:
        with _exact_kernels():
            features = self._encoder(batch)
        return features[..., self.encode_context : self.window_frames - self.encode_context]

    @property
    def spaces(self) -> Spaces:
        """Latents and projections."""
        return {"": self.latents_array, PROJECTED: self.projected_array}

    def latents_array(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Latents of codes on the CPU: ``[..., 9, T]`` -> float32 ``[..., 1024, T]``."""
        return self.latents(_on_cpu(stored)).numpy()

    def projected_array(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Projections of codes on the CPU: ``[..., 9, T]`` -> float32 ``[..., 72, T]``."""
        return self.projected(_on_cpu(stored)).numpy()

    def latents(self, stored: Tensor) -> Tensor:
        """Latents on the device of ``stored``: ``[..., 9, T]`` -> float32 ``[..., 1024, T]``.

        Each codebook entry is stored already projected, so z is a sum of nine table rows: equal to
        the network's own ``from_codes`` to float32 rounding.
        """
        return self._tables_on(stored.device).latents(stored.long())

    def projected(self, stored: Tensor) -> Tensor:
        """Codebook vectors, concatenated: ``[..., 9, T]`` -> float32 ``[..., 72, T]``.

        z is a linear function of these 72 numbers, so they say all that the 1024 channels do.
        """
        return self._tables_on(stored.device).vectors(stored.long())

    def unproject(self, vectors: Tensor) -> Tensor:
        """That function, also between codebook vectors; differentiable.

        Args:
            vectors: float ``[..., 72, T]``.

        Returns:
            float32 ``[..., 1024, T]`` on the same device: of ``projected(codes)`` those of
            ``latents(codes)``, to float32 rounding.
        """
        return self._tables_on(vectors.device).unproject(vectors)

    def _tables_on(self, device: torch.device) -> Tables:
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]

    def decode(self, z: Tensor) -> Tensor:
        """Waveform ``[..., 1024, T]`` -> float32 ``[..., T * hop]``; differentiable in z.

        Beyond the frames given the network's own zero padding continues; see ``decode_chunked``.
        """
        flat = z.to(self.device, torch.float32).reshape(-1, *z.shape[-2:])
        with _exact_kernels():
            wave: Tensor = self.model.decoder(flat)
        return wave.reshape(*z.shape[:-2], -1)


def _on_cpu(stored: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(stored, np.int64))


def _exact_kernels() -> AbstractContextManager[Any]:
    """Full float32 and repeatable convolutions on CUDA; means nothing on the CPU."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
