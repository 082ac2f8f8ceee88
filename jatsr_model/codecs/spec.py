"""What a codec is, as plain data: chosen by the user, then resolved for planners and workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """The user's choice.

    Args:
        name: ``mdct``, ``dac-44khz`` or ``dac-44khz-untrained`` (``--codec``).
        weights: of ``dac-44khz``: a .safetensors file, a Hugging Face folder or the original .pth
            (``--codec-weights``); None searches the environment and the cache.
        device: ``auto``, ``cpu`` or ``cuda`` (``--device``), for encoding.
        precision: ``fp32`` or ``bf16`` (``--precision``), of the encoder network.
        compile: compile the encoder network where a compiler is found (``--no-compile``).
        here: whether the codec will run on this machine; False for a cluster, whose GPUs this
            machine need not have.
    """

    name: str = "mdct"
    weights: Path | None = None
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = True
    here: bool = True


@dataclass(frozen=True, kw_only=True)
class CodecSpec:
    """A resolved choice: picklable, and enough to plan with, without building a network.

    Args:
        name: of the codec.
        weights: the weight file, or None.
        device: ``cpu`` or ``cuda``, decided.
        precision: ``fp32`` or ``bf16``.
        compile: whether the encoder will be compiled, decided.
        identity: JSON-ready, all that determines the stored bytes.
        sample_rate: Hz.
        hop: samples per frame.
        latent_dim: channels of z.
        projected_dim: channels of the projections, of which z is a linear function; 0: none.
        stored_rows: rows of a stored array.
        stored_dtype: numpy name of its type.
        encode_context: frames discarded on both sides of an encode window.
        decode_context: frames discarded on both sides of a decoded chunk.
        window_frames: of one encode window, context included.
        batch_size: windows of one encode call.
    """

    name: str
    weights: Path | None
    device: str
    precision: str
    compile: bool
    identity: Mapping[str, Any]
    sample_rate: int
    hop: int
    latent_dim: int
    projected_dim: int
    stored_rows: int
    stored_dtype: str
    encode_context: int
    decode_context: int
    window_frames: int
    batch_size: int
