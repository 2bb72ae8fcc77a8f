"""The parameters of a task that vary, each with the distribution of its values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from simreal_envs.errors import UserError
from simreal_envs.parameters import UNSUPPORTED, Draws, Parameter, expand
from simreal_envs.variation.distributions import Choice, Distribution, Scale, plain
from simreal_envs.variation.modes import MODES, Interval, without_mode
from simreal_envs.variation.variations import Variation

if TYPE_CHECKING:
    from simreal_envs.tasks import Task

NO_LOAD = 1e-3  # share of the largest load up to which a nominal one is the mass that its body needs to have


@dataclass(frozen=True)
class Varied:
    """A parameter of a domain together with the distribution of its values."""

    parameter: Parameter
    distribution: Distribution

    @property
    def mode(self) -> str:
        """When it is drawn: at every ``"reset"``, at ``"startup"``, or at every reset and every ``"interval"``."""
        return next((mode for mode, cls in MODES.items() if isinstance(self.distribution, cls)), "reset")

    def steps(self, control_period: float) -> int:
        """Control steps between two draws in mode interval."""
        return max(1, round(self.distribution.every / control_period))

    def values(self, u: np.ndarray, draws: Draws, width: float) -> np.ndarray:
        """Values of this episode at the quantiles `u` ``(n,)``, with the deviation from nominal scaled by `width` in [0, 1]."""
        nominal, name = self.parameter.nominal, self.parameter.name
        values = self.distribution.values(u, nominal)
        if width >= 1:
            return values
        if self.parameter.choices:  # there is nothing between two choices: take the drawn one more and more often
            return np.where(draws.uniform(f"{name}#width")[:, 0] < width, values, nominal)
        return nominal + width * (values - nominal)


def draw_all(varied: tuple[Varied, ...], draws: Draws, width: float = 1.0) -> list[np.ndarray]:
    """Draw every varied parameter, each ``(n,)``, each from its own key: none depends on what else is varied."""
    quantiles = draws.uniforms(tuple(v.parameter.name for v in varied)) if varied else ()
    return [v.values(u, draws, width) for v, u in zip(varied, np.transpose(quantiles), strict=True)]


def resolve(variation: Variation, task: Task, engine: str, where: str = "") -> tuple[Varied, ...]:
    """The concrete parameters of a task that vary on an engine, patterns expanded and every value checked. Later entries win.

    Raises:
        UserError: a parameter that there is not, that the engine does not have, or a value that makes no sense.
    """
    varied: dict[str, Varied] = {}
    shortest = _shortest_step(variation, task)
    for pattern, distribution in variation.items:
        for parameter in expand(pattern, task.parameters, task.name, where):
            if parameter.supported(engine) == UNSUPPORTED:
                raise UserError(
                    f"{where or task.name}: {parameter.name} is not supported by the engine {engine!r}"
                    f"{f', since {parameter.why}' if parameter.why else ''}"
                )
            if isinstance(without_mode(distribution), Scale):
                _require_scalable(parameter, where or task.name)
            # What is in s is rounded to whole steps, which are as long as `timestep` makes them.
            resolution = parameter.resolution * (shortest if parameter.unit == "s" else 1.0)
            for span in _spans(parameter, distribution, where or task.name):
                replace(parameter, resolution=resolution).require_valid(*span, where)
            if isinstance(distribution, Interval):
                _require_interval(parameter, distribution, task, where or task.name)
            varied.pop(parameter.name, None)
            varied[parameter.name] = Varied(parameter, distribution)
    return tuple(varied.values())


def _shortest_step(variation: Variation, task: Task) -> float:
    """The shortest physics step that may be drawn, as a multiple of the nominal one."""
    steps = (p for p in task.parameters if p.quantity == "timestep")
    found = ((p, given) for p in steps for name, given in reversed(variation.items) if fnmatchcase(p.name, name))
    parameter, given = next(found, (None, None))
    return min(low for low, _ in _spans(parameter, given, task.name)) / parameter.nominal if parameter else 1.0


def _require_scalable(parameter: Parameter, where: str) -> None:
    """A multiple of nothing is nothing, nor is one of the mass of no load."""
    may_be_none = parameter.quantity == "mass" and parameter.low == 0
    if parameter.nominal == 0 or (may_be_none and parameter.nominal <= NO_LOAD * parameter.high):
        raise UserError(
            f"{where}: a multiple of {parameter.name} would do nothing: its nominal value is {parameter.nominal:g}; "
            f"give values in {parameter.unit}, from {parameter.low:g} to {parameter.high:g}"
        )


def _require_interval(parameter: Parameter, interval: Interval, task: Task, where: str) -> None:
    """Refuse an interval that would never come, and parameters that stand still during an episode."""
    period, episode = task.schema.control_period, task.episode_steps * task.schema.control_period
    if parameter.quantity in ("timestep", "roughness", "flavour", "constructor"):
        raise UserError(
            f"{where}: {parameter.name} cannot change in the middle of an episode: use mode reset or startup"
        )
    if not period / 2 < interval.every < episode:
        raise UserError(
            f"{where}: {parameter.name} every {interval.every:g} s: expected at least a control step ({period:g} s) "
            f"and less than an episode ({episode:g} s)"
        )


def _spans(parameter: Parameter, distribution: Distribution, where: str) -> list[tuple[float, float]]:
    """From where to where values can be drawn: every option of a choice by itself, since there is nothing between them."""
    distribution, nominal = without_mode(distribution), parameter.nominal
    inner = distribution.of if isinstance(distribution, Scale) else distribution
    factor = nominal if isinstance(distribution, Scale) else 1.0
    if isinstance(inner, Choice):
        return [(factor * option, factor * option) for option in inner.options]
    low, high = distribution.bounds(nominal)
    if parameter.choices and low < high:
        known = ", ".join(f"{choice:g}" for choice in parameter.choices)
        raise UserError(
            f"{where}: {parameter.name} must be one of {known}, not drawn from {plain(distribution)}; "
            f"{{choice: [{known}]}} draws one of them"
        )
    return [(low, high)]
