"""Pushes against the base."""

from __future__ import annotations

import numpy as np

from simreal_envs.engines.base import any_of
from simreal_envs.imperfections.late import loops
from simreal_envs.parameters import Draws

PUSH_SECONDS, PUSH_EVERY = 0.1, 2.0  # s: how long a push lasts, and how often there is one


class Pushes:
    """A horizontal force for `PUSH_SECONDS`, once in every `PUSH_EVERY`, in whole control steps.

    Moment and direction in the first window of an episode come with its beginning; whenever others are missing, they are
    drawn for all worlds at once, which is then good for the next windows of the others.
    """

    size = 3  # numbers of a window: in which of its steps the push begins, and its direction (x, y)

    def __init__(self, num_worlds: int, control_period: float):
        self._length = max(1, round(PUSH_SECONDS / control_period))
        self._every = max(self._length, round(PUSH_EVERY / control_period))
        # Step at which another window begins (0: the present one is not known), and the window that is known ahead.
        self._window_end, self._coming = np.zeros((2, num_worlds), dtype=np.int64)
        self._coming_numbers = np.zeros((num_worlds, self.size))
        self._coming -= 1  # none
        self._start, self._stop = np.zeros((2, num_worlds), dtype=np.int64)  # steps
        self._direction, self._pushed = np.zeros((num_worlds, 3)), np.zeros(num_worlds, dtype=bool)
        self._told = False  # whether the engine knows the force

    def lasting(self, draws: Draws, window: np.ndarray | int = 0) -> np.ndarray:
        """The numbers of a window, by default of an episode's first, ``(n, size)``."""
        when, where = draws.uniform("push#window", 2, window).T
        step, angle = np.floor(when * (self._every - self._length + 1)), 2 * np.pi * where
        return np.stack([step, np.cos(angle), np.sin(angle)], axis=1)

    def begin(self, ids: np.ndarray | slice, numbers: np.ndarray | None = None) -> None:
        """New episodes of some worlds, whose first windows have these numbers ``(n, size)``; None: go on anywhere in them.

        Whatever the engine did with the force, tell it again.
        """
        self._window_end[ids], self._told = 0, False
        self._coming[ids] = -1 if numbers is None else 0
        if numbers is not None:
            self._coming_numbers[ids] = numbers

    def changed(self) -> None:
        """Levels are others."""
        self._told = False

    def force(self, level: np.ndarray, draws: Draws, steps: np.ndarray) -> np.ndarray | None:
        """The force during this control step, ``(N, 3)`` N; None where it is that of the step before."""
        if any_of(over := steps >= self._window_end):
            self._enter(np.flatnonzero(over), draws, steps)
        force = np.empty_like(self._direction)
        changed = loops().push(steps, self._start, self._stop, level, self._direction, self._pushed, force)
        if self._told and not changed:
            return None
        self._told = True
        return force

    def _enter(self, ids: np.ndarray, draws: Draws, steps: np.ndarray) -> None:
        """Begin the present windows of some worlds."""
        self._told, window = False, steps // self._every
        if any_of((self._coming != window)[ids]):
            coming = window + 1
            coming[ids] = window[ids]
            self._coming, self._coming_numbers = coming, self.lasting(draws, coming)
        begins, numbers = window[ids] * self._every, self._coming_numbers[ids]
        self._start[ids] = start = begins + numbers[:, 0].astype(np.int64)
        self._stop[ids], self._window_end[ids] = start + self._length, begins + self._every
        self._direction[ids, :2] = numbers[:, 1:]
