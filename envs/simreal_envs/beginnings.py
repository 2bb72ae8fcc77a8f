"""What episodes begin with, drawn ahead for many worlds and episodes at once.

A draw is a function of its key, so it makes no difference when it is made. A reset, which usually concerns one world of
many, then looks up rows instead of paying for a dozen small computations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from simreal_envs.engines.base import rows_of
from simreal_envs.parameters import Draws
from simreal_envs.tasks.base import State, Task
from simreal_envs.variation import Varied


class Beginning(NamedTuple):
    """What some episodes begin with.

    Attributes:
        keys: of their draws, ``(n,)``.
        values: of the parameters, ``(parameters, n)``.
        qpos, qvel, command: see `Task`.
        lasting: errors that last for an episode, ``(n, k)``.
        observation: of the initial states, ``(n, d)``; None where it is not known.
        prepared: what puts the values in force quickly, ``(n, k)``; None where it is not known.
    """

    keys: np.ndarray
    values: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    command: np.ndarray
    lasting: np.ndarray
    observation: np.ndarray | None
    prepared: np.ndarray | None


class Beginnings:
    """Parameter values, initial states and commands of the next episodes of N worlds.

    Args:
        varied: the parameters whose values are wanted.
        draws: those of all worlds; only their seed and worlds matter.
        ahead: episodes per world that are drawn at a time; 0 takes what costs little time and memory.
        prepare: makes of values ``(n, parameters)`` and initial ``qpos`` what puts them in force quickly, ``(n, k)``, or None.
        observe: what is observed of initial states, ``(n, d)``, where that needs nothing else.
        trial: so many episodes in a row have the same parameter values, those of their first, at the width of each.
        lasting: errors that last for an episode, ``(n, k)``, by the draws of episodes, and of the first ones of their trials
            and of their worlds.
    """

    def __init__(
        self,
        task: Task,
        varied: Sequence[Varied],
        draws: Draws,
        num_worlds: int,
        ahead: int = 0,
        prepare: Callable[[np.ndarray, np.ndarray], np.ndarray | None] = lambda values, qpos: None,
        observe: Callable[[State], np.ndarray] | None = None,
        trial: int = 1,
        lasting: Callable[[Draws, Draws, Draws], np.ndarray] = lambda draws, *first: np.zeros((len(draws.keys), 0)),
    ):
        self._task, self._varied, self._draws = task, tuple(varied), draws
        self._names = tuple(v.parameter.name for v in self._varied)
        self._nominal = np.array([[v.parameter.nominal] for v in self._varied]).reshape(-1, 1)
        self._choices = [i for i, v in enumerate(self._varied) if v.parameter.choices]
        self._trial = trial
        self._ahead = ahead or min(16, max(2, 1024 // num_worlds))
        self._prepare, self._observe, self._lasting = prepare, observe, lasting
        self._prepared = np.zeros(num_worlds, dtype=bool)  # worlds whose episodes in the table are prepared
        self._next = np.zeros(num_worlds, dtype=np.int64)  # episode of each world that is expected next
        self._first = np.full(num_worlds, -self._ahead)  # episode of each world that stands in the first column
        self._table = np.zeros((num_worlds, self._ahead, 0))  # (N, ahead, all that is drawn, side by side)
        self._parts: list[slice] = []
        self._startup = [i for i, v in enumerate(self._varied) if v.mode == "startup"]
        if self._startup:  # a world's first episode decides for all of them
            first = draws.ahead(np.arange(num_worlds), np.zeros((num_worlds, 1), dtype=np.int64))
            self._fixed = [part[:, self._startup] for part in self._values(first)]

    def take(self, ids: np.ndarray, episodes: np.ndarray, width: float) -> Beginning:
        """What the given episodes ``(n,)`` of the worlds `ids` begin with.

        Args:
            width: share of the deviation from nominal that is in force, in [0, 1].
        """
        rows = rows_of(ids)
        place = episodes - self._first[rows]
        if max(place.tolist(), default=0) >= self._ahead:
            self._draw(ids, episodes, width)
            place = episodes - self._first[rows]
        self._next[rows] = episodes + 1
        drawn = self._table[rows, place[0]].copy() if len(ids) == 1 else self._table[ids, place]
        keys, values, shares, qpos, qvel, command, lasting, observation, prepared = [
            drawn[:, part] for part in self._parts
        ]
        keys, values = keys[:, 0].view(np.uint64), values.T
        if width < 1:
            full, values = values, self._nominal + width * (values - self._nominal)
            for i in self._choices:  # there is nothing between two choices: take the drawn one more and more often
                values[i] = np.where(shares[:, i] < width, full[i], self._nominal[i])
        ready = width >= 1 and prepared.shape[1] and all(self._prepared[rows].tolist()) and len(ids)
        known = observation if self._observe else None
        return Beginning(keys, values, qpos, qvel, command, lasting, known, prepared if ready else None)

    def _draw(self, ids: np.ndarray, episodes: np.ndarray, width: float) -> None:
        """Draw new columns for the worlds `ids`, and for those that have used up half of theirs."""
        self._next[ids] = episodes
        stale = self._next - self._first >= self._ahead / 2
        stale[ids] = True
        rows = np.flatnonzero(stale)
        self._first[rows] = self._next[rows]
        coming = self._first[rows, None] + np.arange(self._ahead)
        draws = self._draws.ahead(rows, coming)
        n = len(rows) * self._ahead
        first = self._draws.ahead(rows, coming // self._trial * self._trial) if self._trial > 1 else draws
        values, shares = self._values(first)
        if self._startup:
            for part, fixed in zip((values, shares), self._fixed, strict=True):
                part[:, self._startup] = np.repeat(fixed[rows], self._ahead, axis=0)
        keys = draws.keys[:, None].view(np.float64)  # the same bits in a table of floats
        (qpos, qvel), command = self._task.initial_state(draws, n), self._task.command(draws, n)
        prepared = self._prepare(values, qpos) if width >= 1 else None
        self._prepared[rows] = prepared is not None
        if prepared is None:
            prepared = np.zeros((n, self._parts[-1].stop - self._parts[-1].start if self._parts else 0))
        observation = np.zeros((n, 0))
        if self._observe:
            action = np.zeros((n, self._task.schema.action_size))
            observation = self._observe(State(qpos, qvel, action, action, command))
        lasting = self._lasting(draws, first, self._draws.ahead(rows, np.zeros_like(coming)))
        drawn = (keys, values, shares, qpos, qvel, command, lasting, observation, prepared)
        ends = np.cumsum([part.shape[1] for part in drawn]).tolist()
        if ends[-1] != self._table.shape[2]:
            self._parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
            self._table = np.zeros((len(self._next), self._ahead, ends[-1]))
            others = np.delete(np.arange(len(self._next)), rows)
            self._first[others] = -self._ahead  # to be drawn again, to the same numbers
        self._table[rows] = np.concatenate(drawn, axis=1).reshape(len(rows), self._ahead, -1)

    def _values(self, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Values at full width, and for those with choices the width from which on they count, ``(n, parameters)`` each."""
        values, shares = np.zeros((2, len(draws.keys), len(self._varied)))
        if self._varied:
            quantiles = draws.uniforms(self._names)
            for i, varied in enumerate(self._varied):
                values[:, i] = varied.distribution.values(quantiles[:, i], varied.parameter.nominal)
        for i in self._choices:
            shares[:, i] = draws.uniform(f"{self._names[i]}#width")[:, 0]
        return values, shares
