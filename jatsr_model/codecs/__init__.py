"""Codecs: waveforms to compact stored frames to latents and back. Importing this is cheap."""

from jatsr_model.codecs.base import Codec, encode, encode_silence, frames_of
from jatsr_model.codecs.registry import load, resolve
from jatsr_model.codecs.spec import CodecConfig, CodecSpec

__all__ = [
    "Codec",
    "CodecConfig",
    "CodecSpec",
    "encode",
    "encode_silence",
    "frames_of",
    "load",
    "resolve",
]
