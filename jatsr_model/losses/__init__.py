"""Losses by name and weight."""

from jatsr_model.losses.audio import AudioConsistency
from jatsr_model.losses.choose import losses_for
from jatsr_model.losses.gradients import Pull, gradient_ratios
from jatsr_model.losses.terms import LOSSES, Guess
from jatsr_model.losses.total import LossSum

__all__ = [
    "LOSSES",
    "AudioConsistency",
    "Guess",
    "LossSum",
    "Pull",
    "gradient_ratios",
    "losses_for",
]
