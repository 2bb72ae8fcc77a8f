"""Pushes against the base."""

from __future__ import annotations

import numpy as np

from simreal_envs.parameters import Draws

PUSH_SECONDS, PUSH_EVERY = 0.1, 2.0  # s: how long a push lasts, and how often there is one


class Pushes:
    """A horizontal force for `PUSH_SECONDS`, once in every `PUSH_EVERY`, in whole control steps."""

    def __init__(self, num_worlds: int, control_period: float):
        self._length = max(1, round(PUSH_SECONDS / control_period))
        self._every = max(self._length, round(PUSH_EVERY / control_period))
        self._window = np.full(num_worlds, -1)
        self._start, self._direction = np.zeros(num_worlds), np.zeros((num_worlds, 3))
        self._force = np.full((num_worlds, 3), np.nan)  # last given to the engine; NaN: it is not known

    def begin(self, ids: np.ndarray) -> None:
        """New episodes of some worlds: whatever the engine did with the force, tell it again."""
        self._window[ids], self._force[ids] = -1, np.nan

    def force(self, level: np.ndarray, draws: Draws, steps: np.ndarray) -> np.ndarray | None:
        """The force during this control step, ``(N, 3)`` N; None where it is that of the step before."""
        window, moment = np.divmod(steps, self._every)
        if (window != self._window).any():
            when, where = draws.uniform("push#window", 2, window).T
            self._start = np.floor(when * (self._every - self._length + 1))
            self._direction[:, 0], self._direction[:, 1] = np.cos(2 * np.pi * where), np.sin(2 * np.pi * where)
            self._window = window
        now = (self._start <= moment) & (moment < self._start + self._length)
        force = (level * now)[:, None] * self._direction
        if np.array_equal(force, self._force):
            return None
        self._force = force
        return force
