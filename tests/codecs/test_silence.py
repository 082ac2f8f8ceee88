"""The stored frame of silence is what a codec gives wherever there is no sound for long enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jatsr_model.codecs import CodecConfig, encode, encode_silence, load, resolve
from jatsr_model.codecs.of_dataset import on_cpu


def test_of_the_mdct_it_is_zeros() -> None:
    frame = encode_silence(load(on_cpu(resolve(CodecConfig()))))
    assert (frame.dtype, frame.shape) == (np.float16, (512, 1))
    assert frame.tobytes() == bytes(1024)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_of_dac_it_is_the_codes_far_from_sound(
    tiny_dac: Any, tiny_spec: Any, music: Any, precision: str
) -> None:
    """Also from the single short window that is encoded where nothing else is."""
    codec = tiny_dac(precision=precision)
    frame = encode_silence(codec)
    assert (frame.dtype, frame.shape) == (np.uint16, (4, 1))
    wave = np.concatenate([music(20 * 512), np.zeros((1, 60 * 512), np.float32)], axis=1)
    codes = encode(codec, wave)[0]
    assert (codes[:, 20 + codec.encode_context :] == frame).all()
    assert (codes[:, :20] != frame).any()
    short = on_cpu(tiny_spec)
    assert short.window_frames < tiny_spec.window_frames
    changes = {"window_frames": short.window_frames, "batch_size": short.batch_size}
    assert np.array_equal(encode_silence(tiny_dac(precision=precision, **changes)), frame)
