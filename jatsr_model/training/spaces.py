"""Which networks fit a dataset."""

from __future__ import annotations

from jatsr_data.normalise import Space
from jatsr_model.dit import PRESETS, Preset
from shards.errors import ConfigError
from shards.manifest import Manifest

DEFAULTS = {"mdct": "mdct-s", "dac": "s"}  # by the family of the codec


def default_model(manifest: Manifest) -> str:
    """The network for latents of a codec where none is named.

    Raises:
        ConfigError: there is none for this codec.
    """
    name = DEFAULTS.get(_family(manifest))
    if name is None:
        raise ConfigError(
            f"codec {manifest.codec['name']}: no network is made for its latents",
            hint="datasets of mdct and of dac-44khz can be trained on",
        )
    return name


def reading_space(preset: Preset, manifest: Manifest) -> Space:
    """Which numbers of the dataset a network works on.

    Raises:
        ConfigError: it is made for another codec.
    """
    space = preset.space
    if space.split("-")[0] != _family(manifest):
        fitting = [p.name for p in PRESETS.values() if p.space.split("-")[0] == _family(manifest)]
        raise ConfigError(
            f"--model {preset.name} works on latents of {space}, the dataset has those of "
            f"{manifest.codec['name']}",
            hint="one of " + ", ".join(fitting),
        )
    return "projected" if space == "dac-72" else "latents"


def channels_of(manifest: Manifest) -> int:
    """Samples that a crop becomes."""
    return 2 if manifest.config["channels"] == "stereo" else 1


def _family(manifest: Manifest) -> str:
    return str(manifest.codec["name"]).split("-")[0]
