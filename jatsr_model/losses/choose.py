"""The losses that suit a latent space."""

from __future__ import annotations

from collections.abc import Mapping

from jatsr_model.losses.audio import AudioConsistency
from jatsr_model.losses.terms import consistency
from jatsr_model.losses.total import LossSum
from shards.errors import ConfigError


def losses_for(
    weights: Mapping[str, float], space: str, audio: AudioConsistency | None = None
) -> LossSum:
    """Losses by name, with the consistency that means something in this space.

    Args:
        weights: by name.
        space: as in ``Preset``; the channels of ``mdct`` are bands of audio, others are not.
        audio: consistency through the decoder, for the others.

    Raises:
        ConfigError: consistency is asked for and cannot be had.
    """
    if space == "mdct":
        return LossSum(weights, {"consistency": consistency})
    if audio is not None:
        return LossSum(weights, {"consistency": audio})
    if weights.get("consistency"):
        raise ConfigError(
            f"--loss consistency: channels of {space} latents are no bands of audio, so it needs "
            "the decoder",
            hint="give the codec's weights, or leave it out: --loss consistency=0",
        )
    return LossSum({name: weight for name, weight in weights.items() if name != "consistency"})
