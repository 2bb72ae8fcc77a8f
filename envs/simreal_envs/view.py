"""What agents see of a task, as a domain says: in the terms of its `Bridge`, and beyond it what its `Observe` names: the
last steps, the world's parameters.

A history lets a policy find out in which world it is (recurrent and adaptive policies; Duan et al. 2016, RL^2,
arXiv 1611.02779; Kumar et al. 2021, RMA, arXiv 2107.04034). Parameters are what a teacher may know in simulation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from simreal_envs import bridges
from simreal_envs.errors import UserError
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks import find_task
from simreal_envs.variation import Domain, Observe

HISTORY, PARAMETER = "history/", "parameter/"


def own_schema(domain: Domain) -> Schema:
    """Names, units and bounds of a task's own observation and action, in the terms of the domain's bridge."""
    return domain.bridge.over(find_task(domain.task).schema, domain.task)


def schema_of(domain: Domain) -> Schema:
    """Names, units and bounds of what an agent sees and does in a domain: the task's own fields first, then further ones.

    ``history/NAME`` holds a vector field, ``action``, ``reward`` or ``done`` of the last ``history - 1`` steps, step by
    step, oldest first, and zeros where there was none; `done` is 1 for the last step of an earlier episode of the trial.
    ``parameter/NAME`` is one parameter, -1 to 1 over its range; ``task``, the last one, tells several tasks apart. Pictures
    have no history.
    """
    task, observe, schema = find_task(domain.task), domain.observe, own_schema(domain)
    if observe == Observe():
        return schema
    recorded = _recorded(schema, observe)
    past = tuple(_past(field, observe.history - 1) for field in recorded) if observe.history > 1 else ()
    varied = {v.parameter.name: v for v in domain.resolve()}
    known = []
    for name, span in zip(observe.parameters, observe.ranges, strict=True):
        parameter = next(p for p in task.parameters if p.name == name)
        own = varied[name].distribution.bounds(parameter.nominal) if name in varied else ()
        values = _normalized(np.array([*span, *own, parameter.nominal]), np.array(span))
        known.append(Field(PARAMETER + name, "1", (name,), min(-1.0, values.min()), max(1.0, values.max())))
    which = [Field("task", "1", observe.tasks, 0.0, 1.0)] if observe.tasks else []
    return replace(schema, observation=(*schema.observation, *past, *known, *which))


def alike(one: Domain, other: Domain) -> bool:
    """Whether agents can go from one domain to the other as they are, as far as the tasks' own fields say."""
    try:
        own_schema(one).require_same(own_schema(other))
    except UserError:
        return False
    return True


def _recorded(schema: Schema, observe: Observe) -> tuple[Field, ...]:
    """What of one step is remembered."""
    fields = [field for field in schema.observation if not field.grid]
    if observe.actions:
        labels = tuple(label for field in schema.action for label in field.labels)
        low, high = (0.0, 1.0) if schema.choices else (-1.0, 1.0)
        fields.append(Field("action", "1", labels, low, high))
    if observe.rewards:
        fields.append(Field("reward", "1", ("reward",)))
    if observe.trial > 1:
        fields.append(Field("done", "1", ("done",), 0.0, 1.0))
    return tuple(fields)


def _past(field: Field, steps: int) -> Field:
    """A field for the values of another one in so many steps; zeros, which stand for none, are within its bounds."""
    labels = tuple(f"{label}@-{lag}" for lag in range(steps, 0, -1) for label in field.labels)
    return Field(HISTORY + field.name, field.unit, labels, min(field.low, 0.0), max(field.high, 0.0))


def _normalized(values: np.ndarray, span: np.ndarray) -> np.ndarray:
    """-1 to 1 over the ranges ``(..., 2)``; where a range is a single value, the share of it by which values differ from it."""
    low, high = span[..., 0], span[..., 1]
    single = np.where(low == 0, 1.0, np.abs(low))
    return (values - (low + high) / 2) / np.where(high > low, (high - low) / 2, single)


class View:
    """Makes what agents see of what the sensors of N worlds say.

    Args:
        domain: with an `observe` or a `bridge` that is not the default.
        num_worlds: N.
    """

    def __init__(self, domain: Domain, num_worlds: int):
        task, observe = find_task(domain.task), domain.observe
        schema, self._observe = own_schema(domain), observe
        self._dtype, self._choices, self._size = schema_of(domain).dtype, schema.choices, schema.observation_size
        bridge, native = domain.bridge, task.schema
        self._places = bridges.places(native, schema, bridge) if bridge.channels != "native" else None
        self._natives = bridges.choices(native, schema) if bridge.actions != "native" else None
        self._labels = schema.action[0].labels if schema.choices else ()
        ends = np.cumsum([field.size for field in schema.observation]).tolist()
        columns = [np.arange(end - f.size, end) for f, end in zip(schema.observation, ends, strict=True) if not f.grid]
        self._vector = np.concatenate([np.zeros(0, int), *columns])
        sizes = [len(field.labels) for field in _recorded(schema, observe)] if observe.history > 1 else []
        self._past = np.zeros((num_worlds, observe.history - 1, sum(sizes)), dtype=np.float32)
        # From (step, element) to (field, step, element of the field).
        places = np.arange(self._past[0].size).reshape(self._past.shape[1:])
        parts = np.split(places, np.cumsum(sizes)[:-1].tolist(), axis=1) if sizes else []
        self._order = np.concatenate([np.zeros(0, int), *(part.ravel() for part in parts)])

        varied = [v.parameter.name for v in domain.resolve()]
        self._spans = np.array(observe.ranges, dtype=np.float64).reshape(-1, 2)
        nominal = {p.name: p.nominal for p in task.parameters}
        usual = _normalized(np.array([nominal[name] for name in observe.parameters]), self._spans)
        which = [float(name == observe.task) for name in observe.tasks]
        self._known = np.tile(np.float32([*usual, *which]), (num_worlds, 1))
        # Index among the parameters that vary -> column of `_known`.
        self._columns = {varied.index(name): i for i, name in enumerate(observe.parameters) if name in varied}

    def acted(self, actions: np.ndarray) -> np.ndarray:
        """The task's own actions ``(N, a)`` for those that a policy chose, as `step` takes them.

        Raises:
            UserError: a choice that is absent.
        """
        if self._natives is None:
            return actions
        own = self._natives[actions.astype(np.intp)]
        if (own < 0).any():
            world = int(np.argmin(own))
            raise UserError(f"world {world} got {self._labels[int(actions[world, 0])]!r}, which is absent in its game")
        return own

    def sensed(self, rows: np.ndarray) -> np.ndarray:
        """What the sensors said, ``(n, d)``, of rows ``(n, size)`` that were seen."""
        rows = rows[:, : self._size]
        return rows if self._places is None else rows[:, self._places]

    def begin(
        self, ids: np.ndarray, observation: np.ndarray, values: np.ndarray, episodes: np.ndarray, steps: np.ndarray
    ) -> np.ndarray:
        """What is seen of the worlds `ids`, whose episodes have just begun.

        Args:
            observation: ``(n, d)`` of their sensors.
            values: of the parameters that vary, ``(parameters, n)`` SI.
            episodes: their indices, ``(n,)``.
            steps: length of the episodes before, ``(n,)``.
        """
        for index in self._columns:
            self.vary(index, ids, values[index])
        new = episodes % self._observe.trial == 0
        self._past[ids[new]] = 0.0
        if self._observe.trial > 1:  # whatever ended the episode before, be it a reset in its middle
            self._past[ids[~new & (steps > 0)], -1, -1] = 1.0
        return self._rows(observation, ids)

    def vary(self, index: int, ids: np.ndarray, values: np.ndarray) -> None:
        """The parameter of an index among those that vary has new values ``(n,)`` in the worlds `ids`."""
        if (column := self._columns.get(index)) is not None:
            self._known[ids, column] = _normalized(values, self._spans[column])

    def step(
        self,
        before: np.ndarray,
        actions: np.ndarray,
        reward: np.ndarray,
        observation: np.ndarray,
        idle: np.ndarray | None = None,
    ) -> np.ndarray:
        """What is seen after a step of all worlds, ``(N, size)``.

        Args:
            before, observation: what was seen before the step, ``(N, size)``, and of the sensors after it, ``(N, d)``.
            actions: as the policy chose them, float ``(N, a)``, choices as indices ``(N, 1)``.
            reward: of the step, ``(N,)``.
            idle: bool ``(N,)``, worlds in which this step was none.
        """
        observe, last = self._observe, [before[:, self._vector]]
        if observe.history > 1:
            if observe.actions:
                last.append(np.eye(self._choices)[actions[:, 0].astype(int)] if self._choices else actions)
            if observe.rewards:
                last.append(reward[:, None])
            if observe.trial > 1:
                last.append(np.zeros((len(reward), 1)))  # a step is the last one when the next episode begins
            past = np.concatenate([self._past[:, 1:], np.concatenate(last, axis=1)[:, None]], axis=1, dtype=np.float32)
            if idle is not None:
                past[idle] = self._past[idle]
            self._past = past
        return self._rows(observation)

    def _rows(self, observation: np.ndarray, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        if self._places is not None:
            bridged = np.zeros((len(observation), self._size), observation.dtype)
            bridged[:, self._places] = observation
            observation = bridged
        if self._observe == Observe():
            return observation
        past = self._past[ids].reshape(len(observation), -1)[:, self._order]
        return np.concatenate([observation, past, self._known[ids]], axis=1, dtype=self._dtype)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything needed to continue to the same bits."""
        return {"past": self._past.copy(), "known": self._known.copy()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from a snapshot of the same domain and number of worlds."""
        self._past, self._known = np.copy(snapshot["past"]), np.copy(snapshot["known"])
