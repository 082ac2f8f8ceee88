"""Through a codec and back: how close a model of its latents could come to a reference at best."""

from __future__ import annotations

import numpy as np
import torch

from jatsr_model.audio.blocks import Block
from jatsr_model.codecs.windower import Windower
from jatsr_model.metrics.clips import converted, fitted
from jatsr_model.upsampling.levels import InputGain
from jatsr_model.upsampling.model import Model


@torch.no_grad()
def round_trip(model: Model, wave: Block, rate: int, gain: InputGain) -> Block:
    """Encode and decode, at the level at which the model hears music.

    Args:
        model: whose codec it is.
        wave: float32 ``[C, n]``.
        rate: Hz.
        gain: to the level of the model; it is undone.

    Returns:
        float32 ``[C, n]``.
    """
    codec = model.codec
    windower = Windower(codec, len(wave))
    heard = gain.apply(converted(wave, rate, codec.sample_rate))
    pieces = [codec.encode_windows(window) for window in windower.push(heard)]
    pieces += [codec.encode_windows(window)[..., :n] for window, n in windower.flush()]
    stored = np.concatenate(pieces, axis=-1)
    if np.issubdtype(stored.dtype, np.integer):
        stored = stored.astype(np.int64)
    decoded = model.decoder.stored(torch.from_numpy(stored).to(model.device)).cpu().numpy()
    back = gain.undo(decoded[:, : heard.shape[1]])
    return fitted(converted(back, codec.sample_rate, rate), wave.shape[1])
