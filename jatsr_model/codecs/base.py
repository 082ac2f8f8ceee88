"""What the pipeline, the reader and the model need to know of a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from shards.statistics import Spaces

Side = Literal["start", "end"]


class Codec(Protocol):
    """A waveform <-> stored integers or halves <-> latents mapping on a fixed hop grid.

    Frame ``f`` stands for samples ``[f * hop, (f + 1) * hop)``; a signal of ``n`` samples has
    ``ceil(n / hop)`` frames, the last hop filled with zeros. A codec handles single channels;
    channels and tracks are batch entries.
    """

    @property
    def name(self) -> str:
        """As in --codec."""
        ...

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def hop(self) -> int:
        """Samples per frame."""
        ...

    @property
    def latent_dim(self) -> int:
        """Channels of z."""
        ...

    @property
    def stored_rows(self) -> int:
        """Rows of the stored array: codebooks or bins."""
        ...

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Of the stored array: uint16 codes or float16 coefficients."""
        ...

    @property
    def encode_context(self) -> int:
        """Frames needed on both sides for chunked == whole encoding."""
        ...

    @property
    def decode_context(self) -> int:
        """Frames needed on both sides for chunked == whole decoding."""
        ...

    @property
    def window_frames(self) -> int:
        """Frames of one encode window, context included."""
        ...

    @property
    def batch_size(self) -> int:
        """Windows of one encode call."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON-ready facts that determine the stored bytes: name, version, weights, numerics."""
        ...

    def extend(self, edge: NDArray[np.float32], side: Side) -> NDArray[np.float32]:
        """How a signal continues beyond its end, so that edges need no special case.

        Args:
            edge: float32 ``[..., encode_context * hop]``, the samples next to the edge.
            side: which end of the signal.

        Returns:
            float32 of the same shape: the samples before the start or after the end.
        """
        ...

    def encode_windows(self, waves: NDArray[np.float32]) -> NDArray[Any]:
        """Encode windows of one length and drop the context frames on both sides.

        Args:
            waves: float32 ``[B, frames * hop]`` with ``frames > 2 * encode_context``. The pipeline
                always passes ``B == batch_size`` and ``frames == window_frames``.

        Returns:
            ``stored_dtype`` array ``[B, stored_rows, frames - 2 * encode_context]``.
        """
        ...

    def latents_array(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Latents of stored frames on the CPU, for statistics.

        ``[..., stored_rows, T]`` -> float32 ``[..., latent_dim, T]``.
        """
        ...

    @property
    def spaces(self) -> Spaces:
        """What statistics are kept of: suffix of their name -> mapping of stored frames (CPU).

        ``""`` is ``latents_array``. A codec whose latents are a linear function of fewer numbers
        also has ``".projected"``: ``[..., stored_rows, T]`` -> float32 ``[..., projected_dim, T]``.
        """
        ...

    def latents(self, stored: Tensor) -> Tensor:
        """Latents on the device of ``stored``.

        ``[..., stored_rows, T]`` -> float32 ``[..., latent_dim, T]``.
        """
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Waveform of the frames given: ``[..., latent_dim, T]`` -> float32 ``[..., T * hop]``."""
        ...


def frames_of(samples: int, hop: int) -> int:
    """Frames of a signal of ``samples`` samples (the last one may be partly zeros)."""
    return -(-samples // hop)


def encode(codec: Codec, wave: NDArray[np.float32]) -> NDArray[Any]:
    """Encode a whole signal in one call; what chunked encoding must equal.

    Args:
        codec: any codec.
        wave: float32 ``[channels, samples]`` at ``codec.sample_rate``.

    Returns:
        stored array ``[channels, stored_rows, ceil(samples / hop)]``.
    """
    frames = frames_of(wave.shape[-1], codec.hop)
    if frames == 0:
        return np.zeros((wave.shape[0], codec.stored_rows, 0), codec.stored_dtype)
    padded = np.zeros((wave.shape[0], frames * codec.hop), np.float32)
    padded[:, : wave.shape[-1]] = wave
    context = codec.encode_context * codec.hop
    head = np.zeros((wave.shape[0], context), np.float32)
    head[:, : min(context, padded.shape[-1])] = padded[:, :context]
    tail = np.zeros_like(head)
    tail[:, context - min(context, padded.shape[-1]) :] = padded[:, -context:]
    extended = np.concatenate(
        [codec.extend(head, "start"), padded, codec.extend(tail, "end")], axis=-1
    )
    return codec.encode_windows(extended)


def encode_silence(codec: Codec) -> NDArray[Any]:
    """What is stored of digital silence far from any sound: one frame, ``[stored_rows, 1]``.

    The middle of an encode window of zeros; all frames there are the same. No zero is negative.
    """
    zeros = np.zeros((1, codec.window_frames * codec.hop), np.float32)
    stored = codec.encode_windows(zeros)[0]
    middle = stored.shape[-1] // 2
    frame: NDArray[Any] = stored[:, middle : middle + 1] + codec.stored_dtype.type(0)
    return frame
