"""The diffusion transformer: one network, small modules, presets."""

from jatsr_model.dit.conditions import Conditions
from jatsr_model.dit.config import DiTConfig
from jatsr_model.dit.model import DiT
from jatsr_model.dit.presets import PRESETS, preset
from jatsr_model.dit.recipe import Preset

__all__ = ["PRESETS", "Conditions", "DiT", "DiTConfig", "Preset", "preset"]
