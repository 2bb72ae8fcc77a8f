"""What tasks observe of states, as sensors show it: with their errors, and within the bounds that are declared."""

from __future__ import annotations

import numpy as np

from simreal_envs.imperfections import Imperfections
from simreal_envs.parameters import Draws
from simreal_envs.tasks.base import State, Task


class Senses:
    """The sensors of N worlds.

    Args:
        imperfections: of the worlds; what distorts readings is theirs.
    """

    def __init__(self, task: Task, imperfections: Imperfections, num_worlds: int):
        self._task, self._imperfections, self._num_worlds = task, imperfections, num_worlds
        schema = task.schema
        self._bounds = self._all_bounds = schema.bounds
        if not any(field.grid for field in schema.observation):  # numpy is twice as fast on two arrays of one shape
            self._all_bounds = tuple(np.tile(bound, (num_worlds, 1)) for bound in schema.bounds)
        self._pixels = schema.dtype == np.uint8

    def observe(self, state: State, draws: Draws, steps: np.ndarray) -> np.ndarray:
        """What is observed of all worlds after a step, ``(N, d)``."""
        if self._imperfections.distorts:
            state = state.measured(self._imperfections.measured(state.qpos))
        return self._bounded(self._imperfections.sense(self._task.observe(state), draws, steps, None))

    def begin(self, state: State, draws: Draws, steps: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """What is observed of the worlds in some rows, whose episodes have just begun, ``(n, d)``.

        Args:
            state: of these alone; draws, steps: of all worlds.
        """
        if self._imperfections.distorts:
            state = state.measured(self._imperfections.measured(state.qpos, rows))
        observation = self._task.observe(state)
        if self._imperfections.senses:
            observation = self._imperfections.sense(observation, draws.take(rows), steps[rows], rows)
        return self._bounded(observation)

    def exactly(self, state: State) -> np.ndarray:
        """What is observed of a state where no sensor errs, ``(n, d)``."""
        return self._bounded(self._task.observe(state))

    def _bounded(self, observation: np.ndarray) -> np.ndarray:
        if observation.dtype == np.uint8:
            return observation.copy()
        observation = observation.astype(np.float32)
        low, high = self._all_bounds if len(observation) == self._num_worlds else self._bounds
        np.maximum(observation, low, out=observation)  # two ufuncs cost a third of np.clip on small arrays
        np.minimum(observation, high, out=observation)
        return np.rint(observation).astype(np.uint8) if self._pixels else observation
