"""What agents see beyond a task's own observation, as a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from simreal_envs.errors import UserError, require_keys, require_known
from simreal_envs.parameters import expand
from simreal_envs.variation.varied import Varied

if TYPE_CHECKING:
    from simreal_envs.tasks import Task


@dataclass(frozen=True)
class Observe:
    """What agents see beyond a task's own observation; by default nothing. `simreal_envs.view.schema_of` names the fields.

    Attributes:
        history: of how many steps they see the observation: 1 is the present alone.
        actions, rewards: whether they see those of the past steps, too.
        parameters: of which parameters they know the world's values: names, patterns (``*/mass``), or ``"all"`` that vary.
        trial: over how many episodes a history goes on; so many in a row have the same parameters, and the history says
            which steps ended one (Duan et al. 2016, RL^2, section 2.2).
        ranges: of each parameter, (low, high) SI that are shown as -1 and 1. A domain fills in those of its own
            variation, and agents that move to another one keep them.
        tasks: names of tasks that one agent learns, and
        task: which of them this is: shown as 1 for it and 0 for the others, in a last field ``task``.
    """

    history: int = 1
    actions: bool = False
    rewards: bool = False
    parameters: tuple[str, ...] | str = ()
    trial: int = 1
    ranges: tuple[tuple[float, float], ...] = ()
    tasks: tuple[str, ...] = ()
    task: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", _names(self.tasks, "tasks"))
        if self.tasks:
            require_known(self.task, self.tasks, "task", "observe")
        for name in ("history", "trial"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"observe: {name} must be a whole number of at least 1, not {value!r}")
        for name in ("actions", "rewards"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"observe: {name} must be true or false, not {getattr(self, name)!r}")
        if self.history == 1 and (self.actions or self.rewards or self.trial > 1):
            raise UserError(
                "observe: actions, rewards and trial speak of past steps: they need a history of at least 2"
            )
        if self.parameters != "all":
            names = (self.parameters,) if isinstance(self.parameters, str) else self.parameters
            object.__setattr__(self, "parameters", _names(names, "parameters"))
        try:
            ranges = tuple((float(low), float(high)) for low, high in self.ranges)
            ordered = all(low <= high for low, high in ranges)
        except (TypeError, ValueError):
            ranges, ordered = (), False
        if not ordered:
            raise UserError(f"observe: ranges must be pairs of numbers (low, high), not {self.ranges!r}")
        object.__setattr__(self, "ranges", ranges)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the default, as plain data."""
        data = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name: _listed(value) for name, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "") -> Observe:
        require_keys(data, [f.name for f in fields(cls)], "observe", "{history: .., actions: ..}", where)
        return cls(**data)


def concrete(observe: Observe, task: Task, varied: tuple[Varied, ...]) -> Observe:
    """The same with every parameter's name and range; what has ranges keeps them."""
    if observe.history > 1 and all(field.grid for field in task.schema.observation):
        raise UserError(f"observe: {task.name} shows pictures only, which have no history")
    if observe.ranges:
        if len(observe.ranges) != len(observe.parameters):
            raise UserError(f"observe: {len(observe.ranges)} ranges for the parameters {list(observe.parameters)}")
        for name in observe.parameters:
            require_known(name, [p.name for p in task.parameters], f"parameter of {task.name}", "observe")
        return observe
    if observe.parameters == "all":
        if not varied:
            raise UserError("observe: parameters: all are those that vary, and nothing varies in this domain")
        found = {v.parameter.name: v.parameter for v in varied}
    else:
        patterns = (expand(pattern, task.parameters, task.name, "observe") for pattern in observe.parameters)
        found = {parameter.name: parameter for matched in patterns for parameter in matched}
    bounds = {v.parameter.name: v.distribution.bounds(v.parameter.nominal) for v in varied}
    ranges = [bounds.get(name, (parameter.nominal, parameter.nominal)) for name, parameter in found.items()]
    return replace(observe, parameters=tuple(found), ranges=tuple(ranges))


def _names(names: Any, what: str) -> tuple[str, ...]:
    found: tuple[Any, ...] = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (None,)
    if not all(isinstance(name, str) for name in found):
        raise UserError(f"observe: {what} must be a list of names, not {names!r}")
    return found


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
