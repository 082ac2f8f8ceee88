"""Flow matching: the path between noise and data, laws of time, solvers, the objective.

One convention everywhere: t = 0 is noise, t = 1 is data, ``z_t = (1 - t) noise + t data``.
"""

from jatsr_model.dit.recipe import Prediction
from jatsr_model.flow.objective import Objective, Step
from jatsr_model.flow.path import to_data, to_noise, to_velocity
from jatsr_model.flow.solvers import SOLVERS, solve, uniform_grid
from jatsr_model.flow.times import TimeLaw, time_law

TIME_CONVENTION = "t=0 noise, t=1 data, z_t = (1-t) noise + t data"

__all__ = [
    "SOLVERS",
    "TIME_CONVENTION",
    "Objective",
    "Prediction",
    "Step",
    "TimeLaw",
    "solve",
    "time_law",
    "to_data",
    "to_noise",
    "to_velocity",
    "uniform_grid",
]
