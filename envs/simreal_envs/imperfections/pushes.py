"""Pushes against the base."""

from __future__ import annotations

import numpy as np

from simreal_envs.engines.base import any_of
from simreal_envs.parameters import Draws

PUSH_SECONDS, PUSH_EVERY = 0.1, 2.0  # s: how long a push lasts, and how often there is one


class Pushes:
    """A horizontal force for `PUSH_SECONDS`, once in every `PUSH_EVERY`, in whole control steps."""

    def __init__(self, num_worlds: int, control_period: float):
        self._length = max(1, round(PUSH_SECONDS / control_period))
        self._every = max(self._length, round(PUSH_EVERY / control_period))
        self._window_end = np.zeros(
            num_worlds, dtype=np.int64
        )  # step at which another window begins; 0: it is not known
        self._start, self._stop = np.zeros((2, num_worlds), dtype=np.int64)  # steps
        self._direction, self._now = np.zeros((num_worlds, 3)), np.zeros(num_worlds, dtype=bool)
        self._told = False  # whether the engine knows the force

    def begin(self, ids: np.ndarray | slice) -> None:
        """New episodes of some worlds: whatever the engine did with the force, tell it again."""
        self._window_end[ids], self._told = 0, False

    def changed(self) -> None:
        """Levels are others."""
        self._told = False

    def force(self, level: np.ndarray, draws: Draws, steps: np.ndarray) -> np.ndarray | None:
        """The force during this control step, ``(N, 3)`` N; None where it is that of the step before."""
        if any_of(over := steps >= self._window_end):
            self._draw(np.flatnonzero(over), draws, steps)
        now = (self._start <= steps) & (steps < self._stop)
        if self._told and now.tobytes() == self._now.tobytes():
            return None
        self._now, self._told = now, True
        return (level * now)[:, None] * self._direction

    def _draw(self, ids: np.ndarray, draws: Draws, steps: np.ndarray) -> None:
        """Draw moment and direction in the windows that begin in some worlds."""
        self._told = False
        window = steps[ids] // self._every
        when, where = draws.take(ids).uniform("push#window", 2, window).T
        self._start[ids] = window * self._every + np.floor(when * (self._every - self._length + 1)).astype(np.int64)
        self._stop[ids], self._window_end[ids] = self._start[ids] + self._length, (window + 1) * self._every
        self._direction[ids, 0], self._direction[ids, 1] = np.cos(2 * np.pi * where), np.sin(2 * np.pi * where)
