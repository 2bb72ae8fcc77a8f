"""What is imperfect about sensors and links, in batched numpy around the engine, so that it is the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from simreal_envs.parameters import Draws


class ActionDelay:
    """Commands arrive late: per world by a whole number of physics steps, which need not be whole control steps.

    Args:
        num_worlds, action_size: shape of the actions.
        substeps: physics steps per control step.
        timestep: physics step in s.
    """

    def __init__(self, num_worlds: int, action_size: int, substeps: int, timestep: float):
        self._substeps, self._timestep = substeps, timestep
        self._delay = np.zeros(num_worlds, dtype=np.int64)  # in physics steps
        self._history = np.zeros((2, num_worlds, action_size))  # newest first
        self._rows = np.arange(num_worlds)
        self._plan: list[tuple[np.ndarray | None, int]] | None = None

    def set(self, ids: np.ndarray, seconds: np.ndarray) -> None:
        """Set the delay of some worlds in s, rounded to whole physics steps."""
        self._delay[ids] = np.rint(np.asarray(seconds) / self._timestep).astype(np.int64)
        self._plan = None

    @property
    def seconds(self) -> np.ndarray:
        """The delays in force, ``(N,)``, s."""
        return self._delay * self._timestep

    @property
    def latest(self) -> np.ndarray:
        """The last action given, whether it has arrived or not, ``(N, a)``."""
        return self._history[0]

    @property
    def previous(self) -> np.ndarray:
        """The action before the last one, ``(N, a)``."""
        return self._history[1]

    def clear(self, ids: np.ndarray) -> None:
        """A new episode: nothing is under way (zero actions)."""
        self._history[:, ids] = 0.0

    def push(self, actions: np.ndarray) -> None:
        """Give the actions of this control step, ``(N, a)``."""
        depth = max(2, 1 + int(-(-self._delay.max() // self._substeps)))
        if depth > len(self._history):
            older = np.zeros((depth - len(self._history), *self._history.shape[1:]))
            self._history = np.concatenate([self._history, older])
        self._history[1:] = self._history[:-1]
        self._history[0] = actions

    def in_effect(self) -> Iterator[tuple[np.ndarray, int]]:
        """The actions in effect during this control step, as (action ``(N, a)``, number of physics steps) in order."""
        if self._plan is None:
            self._plan = self._make_plan()
        for ages, substeps in self._plan:
            yield (self._history[0] if ages is None else self._history[ages, self._rows]), substeps

    def _make_plan(self) -> list[tuple[np.ndarray | None, int]]:
        """Group physics steps in which every world acts on an action of the same age."""
        plan: list[tuple[np.ndarray | None, int]] = []
        for k in range(self._substeps):
            ages = np.maximum(-(-(self._delay - k) // self._substeps), 0)
            if plan and np.array_equal(plan[-1][0], ages):
                plan[-1] = (ages, plan[-1][1] + 1)
            else:
                plan.append((ages, 1))
        return [(ages if ages.any() else None, substeps) for ages, substeps in plan]

    def snapshot(self) -> dict[str, np.ndarray]:
        """Delays and the actions under way."""
        return {"delay": self._delay.copy(), "history": self._history.copy()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Continue from a snapshot."""
        self._delay, self._history = snapshot["delay"].copy(), snapshot["history"].copy()
        self._plan = None


def sensor_noise(draws: Draws, level: np.ndarray, std: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Gaussian noise ``(n, d)``: `level` ``(n,)`` times the fields' `std` ``(d,)``, a function of world, episode and step."""
    noisy = np.flatnonzero(std)
    noise = np.zeros((len(level), len(std)))
    noise[:, noisy] = level[:, None] * std[noisy] * draws.normal("observation/noise#step", len(noisy), step)
    return noise
