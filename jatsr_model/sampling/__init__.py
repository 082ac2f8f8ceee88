"""From noise to data: grids of times, guidance, noise that depends on its place alone."""

from jatsr_model.sampling.filling import excited, fill
from jatsr_model.sampling.grids import GRIDS, linear_quadratic, time_grid
from jatsr_model.sampling.guidance import Branch, Guidance
from jatsr_model.sampling.noise import noise_field
from jatsr_model.sampling.sampler import guided_velocity, sample

__all__ = [
    "GRIDS",
    "Branch",
    "Guidance",
    "excited",
    "fill",
    "guided_velocity",
    "linear_quadratic",
    "noise_field",
    "sample",
    "time_grid",
]
