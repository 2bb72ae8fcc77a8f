"""Where an agent breaks: its returns while one or two parameters of a domain move over a grid of values."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simreal.evaluation import EVALUATION_SEED, MOST_EPISODES, Evaluator, require_both
from simreal.learner import at_once
from simreal_agents.bundle import Agent
from simreal_envs.arguments import whole
from simreal_envs.cells import Cells
from simreal_envs.errors import UserError, require_known
from simreal_envs.parameters import Parameter
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain

MOST_VALUES = 1000  # of one parameter
EPISODES = 4  # per cell of an experiment's grid
BEYOND = 0.5  # how far a grid goes on where the target lies outside of the source, in shares of the way from one to the other
MANY = 10.0  # values that span this factor are spaced by equal ratios
# A world of MuJoCo's batch costs nothing to keep, one of any other engine is a simulator of its own.
AT_A_TIME = {"mujoco": 1024}
FEW = 24


@dataclass(frozen=True)
class Axis:
    """One parameter of a grid.

    Attributes:
        values: in order, SI.
        target: its value in the target; None where the target draws it.
        source: what the sources draw it from, (low, high); both are the nominal value where they leave it alone. None
            without a source.
    """

    parameter: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None
    source: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "values": list(self.values), "source": list(self.source) if self.source else None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Axis:
        source = tuple(data["source"]) if data["source"] else None
        return cls(**{**data, "values": tuple(data["values"]), "source": source})


@dataclass(frozen=True, eq=False)
class Sweep:
    """What an agent does on a grid.

    Attributes:
        x, y: the parameters of columns and rows; y is None for a line.
        returns: ``(rows, columns, episodes)``.
        success: bool, the same shape.
    """

    x: Axis
    y: Axis | None
    returns: np.ndarray
    success: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the axes, ``episodes`` and `means`."""
        axes = {"x": self.x.to_dict(), "y": self.y.to_dict() if self.y else None}
        return {**axes, "episodes": self.returns.shape[2], **self.means()}

    def means(self) -> dict[str, list[list[float]]]:
        """Means over the episodes of every cell: ``returns`` and ``success``, rows by columns."""
        return {"returns": self.returns.mean(axis=2).tolist(), "success": self.success.mean(axis=2).tolist()}


def sweep(
    agent: Agent,
    domain: Domain,
    values: Mapping[str, Sequence[float]],
    *,
    episodes: int = 10,
    seed: int = EVALUATION_SEED,
    deterministic: bool = True,
) -> Sweep:
    """Evaluate an agent at every combination of values of one or two parameters: ``{"pole/mass": [0.5, 1, 2]}``.

    All else is as `domain` says, and the same in all cells, to the initial states and the noise.

    Args:
        values: the first parameter is that of the columns. They replace what the domain says of these parameters.
        episodes: whole episodes per cell.

    Raises:
        UserError: no parameter or more than two, unknown ones, values out of bounds, or an agent that does not fit.
    """
    require_both(agent, domain)
    axes = [axis(domain, name, some) for name, some in values.items()]
    with contextlib.closing(Grid(domain.seen_by(agent.card.get("domain")), axes, episodes, seed)) as cells:
        return cells.sweep(agent, deterministic)


def axis(domain: Domain, name: str, values: Sequence[float]) -> Axis:
    """A parameter of a domain with values of the user's choice.

    Raises:
        UserError: an unknown parameter, no values, what is no number, or the same one twice.
    """
    parameter = _find(domain, name)
    try:
        given = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise UserError(f"sweep: {name} needs a list of numbers, not {values!r}") from None
    if not 1 <= len(given) <= MOST_VALUES or len(set(given)) < len(given):
        raise UserError(
            f"sweep: {name} needs 1 to {MOST_VALUES:,} values, each once, not {reprlib.repr(list(values))} ({len(given)})"
        )
    low, high = _range(domain, parameter)
    return Axis(name, parameter.unit, tuple(sorted(given)), low if low == high else None)


class Grid:
    """A grid of worlds in which agents that see the domain in the same way are evaluated, some cells at a time.

    Args:
        domain: as the agents see it.
        axes: one or two.
    """

    def __init__(self, domain: Domain, axes: Sequence[Axis], episodes: int, seed: int = EVALUATION_SEED):
        if not 1 <= len(axes) <= 2:
            raise UserError(f"a sweep takes one or two parameters, not {len(axes)}")
        self.axes, self.episodes = tuple(axes), whole("the episodes of a sweep", episodes, 1, MOST_EPISODES)
        columns = np.meshgrid(*(one.values for one in axes))
        self._cells = {one.parameter: column.ravel() for one, column in zip(axes, columns, strict=True)}
        self._shape = columns[0].shape if len(axes) > 1 else (1, columns[0].size)
        count = columns[0].size
        parts = -(-count * episodes // AT_A_TIME.get(domain.engine, FEW))
        self._at_a_time = -(-count // min(parts, count))
        worlds = self._at_a_time * episodes
        self._worlds = Cells(
            domain, {one.parameter: one.values for one in axes}, self._at_a_time, episodes, seed,
            num_threads=at_once(domain, worlds, processes=False)["num_threads"],
        )  # fmt: skip
        self._evaluator = Evaluator(domain, worlds, seed, self._worlds)

    def sweep(self, agent: Agent, deterministic: bool = True) -> Sweep:
        """Evaluate an agent in every cell."""
        returns, success = [], []
        for start in range(0, self._shape[0] * self._shape[1], self._at_a_time):
            part = {name: some[start : start + self._at_a_time].tolist() for name, some in self._cells.items()}
            self._worlds.fix(part)
            found = self._evaluator(agent, deterministic)
            returns.append(found.returns)
            success.append(found.success)
        # The last cells of the last part repeat others.
        shape, size = (*self._shape, self.episodes), self._shape[0] * self._shape[1] * self.episodes
        x, *others = self.axes
        return Sweep(
            x, others[0] if others else None, *(np.concatenate(one)[:size].reshape(shape) for one in (returns, success))
        )

    def close(self) -> None:
        """Free the worlds."""
        self._evaluator.close()


# ---- which parameters, and which values ------------------------------------------------------------------------------


def chosen(target: Domain, sources: Sequence[Domain], cells: int) -> tuple[Axis, ...]:
    """The one or two parameters that tell most about a transfer, of those that a target or its sources vary; none if none do.

    Those come first of which the target's values lie farthest outside of the sources', then those that vary most.

    Args:
        cells: values per parameter, at least 2.
    """
    task = find_task(target.task)
    varied = {v.parameter.name for domain in (target, *sources) for v in domain.resolve()}
    found: list[tuple[tuple[float, float], Axis]] = []
    for parameter in task.parameters:
        if parameter.name not in varied or parameter.supported(target.engine) == "unsupported":
            continue
        here, there = (
            _range(target, parameter),
            _hull([_range(source, parameter) for source in sources] or [_range(target, parameter)]),
        )
        low, high = _hull([here, there])
        if low == high:
            continue
        outside = max(here[1] - there[1], there[0] - here[0], 0.0) / (high - low)
        width = (high - low) / max(abs(low), abs(high))
        values = _values(parameter, here, there, cells)
        fixed = here[0] if here[0] == here[1] else None
        found.append(
            ((outside, width), Axis(parameter.name, parameter.unit, values, fixed, there if sources else None))
        )
    found.sort(key=lambda one: one[0], reverse=True)
    return tuple(one for _, one in found[:2])


def _values(
    parameter: Parameter, target: tuple[float, float], source: tuple[float, float], cells: int
) -> tuple[float, ...]:
    """Values that cover the source's range and the target's, and go on where the target is outside; one is the target's."""
    if parameter.choices:
        options = sorted(parameter.choices)
        places = np.unique(np.linspace(0, len(options) - 1, cells).round().astype(int))
        return tuple(sorted({*(options[place] for place in places), *target}))
    low, high = _hull([target, source])
    further = BEYOND * (high - low)
    low = max(low - further, parameter.low) if target[0] < source[0] else low
    high = min(high + further, parameter.high) if target[1] > source[1] else high
    space = np.geomspace if low > 0 and high >= MANY * low else np.linspace
    values = np.array([float(f"{value:.3g}") for value in space(low, high, cells)])
    if parameter.resolution:
        values = (values / parameter.resolution).round() * parameter.resolution
    if target[0] == target[1]:
        values[np.abs(values - target[0]).argmin()] = target[0]
    return tuple(np.unique(values.clip(parameter.low, parameter.high)).tolist())


def _range(domain: Domain, parameter: Parameter) -> tuple[float, float]:
    """What a domain draws a parameter from; the nominal value where it leaves it alone."""
    for varied in domain.resolve():
        if varied.parameter.name == parameter.name:
            return varied.distribution.bounds(varied.parameter.nominal)
    return parameter.nominal, parameter.nominal


def _hull(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _find(domain: Domain, name: str) -> Parameter:
    task = find_task(domain.task)
    require_known(name, [p.name for p in task.parameters], f"parameter of {task.name}", "sweep")
    return next(p for p in task.parameters if p.name == name)
