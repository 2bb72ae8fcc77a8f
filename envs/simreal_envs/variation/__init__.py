"""How a world differs from nominal, as a value: it prints, compares, hashes and goes into a config.

distributions   Constant, Uniform, LogUniform, Normal, Choice; Scale(any of them) counts in multiples of nominal
modes           a distribution is drawn at every reset; Startup(it) once per world, Interval(it, every) again and again
variations      Shift (fixed), Randomization (new draws at every reset), Curriculum (a Randomization that widens)
varied          the parameters of a task that vary, each with its distribution
observe         what agents see beyond a task's own observation
domain          task + engine + variation: a source or a target
"""

from simreal_envs.variation.distributions import Choice, Constant, Distribution, LogUniform, Normal, Scale, Uniform
from simreal_envs.variation.domain import Domain
from simreal_envs.variation.modes import Interval, Startup
from simreal_envs.variation.observe import Observe
from simreal_envs.variation.variations import Curriculum, Randomization, Shift, Variation, variation_from_dict
from simreal_envs.variation.varied import Varied, draw_all

__all__ = [
    "Choice", "Constant", "Curriculum", "Distribution", "Domain", "Interval", "LogUniform", "Normal", "Observe", "Randomization",
    "Scale", "Shift", "Startup", "Uniform", "Variation", "Varied", "draw_all", "variation_from_dict",
]  # fmt: skip
