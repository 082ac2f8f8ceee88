"""A prompt as a network takes it."""

from __future__ import annotations

from jatsr_model.text import DEFAULT, Embedded, TextEncoder
from jatsr_model.upsampling.model import Model
from shards.errors import ConfigError


def embedded_prompt(model: Model, prompt: str, place: str | None) -> Embedded | None:
    """Embed a prompt; None without one.

    Args:
        model: that takes it.
        prompt: what the music sounds like.
        place: of the text encoder; None for the usual one.

    Raises:
        ConfigError: the model takes no text, or was trained with another encoder.
    """
    if not prompt.strip():
        return None
    width, trained = model.network.config.text_dim, model.card.latents.get("text_encoder")
    if not width or not trained:
        raise ConfigError(
            f"--prompt: the model {model.name} "
            + ("takes no text" if not width else "was trained without captions"),
            hint="leave it out",
        )
    encoder = TextEncoder(place or DEFAULT, model.device, width=width)
    if encoder.identity != trained:
        raise ConfigError(
            f"--text-encoder {place or DEFAULT}: it is not the one that the model was trained with",
            hint="name the folder of that one",
        )
    return encoder([prompt])
