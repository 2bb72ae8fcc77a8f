"""What is counted over an episode: its return, every term of its reward, and how often its goal was met."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simreal_envs.tasks.base import Episode, State, Task

_ONE = np.array(1.0)  # as an array: numpy takes half of the time with it


class Tally:
    """The running episodes of N worlds in numbers.

    Attributes:
        names: of the terms of the reward, once there was one.
        sums: over the episode: of every term, of the reward, and in how many steps the goal was met, ``(terms + 2, N)``.
        streak: in how many of the last steps without a gap it was, ``(N,)``.
    """

    def __init__(self, task: Task, num_worlds: int):
        self._task = task
        self.names: tuple[str, ...] = ()
        self.sums, self.streak = np.zeros((2, num_worlds)), np.zeros(num_worlds)

    def begin(self, rows: np.ndarray | slice) -> None:
        """Episodes of the worlds in some rows begin."""
        self.sums[:, rows], self.streak[rows] = 0.0, 0.0

    def score(self, state: State, broken: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Reward and termination of the step that led to `state`, arrays of our own; counts towards the episode's sums."""
        terms = self._task.reward(state)
        if not self.names:
            self.names, self.sums = tuple(terms), np.zeros((len(terms) + 2, len(self.streak)))
        rows = np.empty(self.sums.shape)
        for i, term in enumerate(terms.values()):
            rows[i] = term
        rows[-1], terminated = self._task.on_goal(state), self._task.terminated(state).copy()
        if broken is not None:
            rows[:, broken], terminated = 0.0, terminated & ~broken
        reward = np.add.reduce(rows[:-2], axis=0, out=rows[-2])
        self.sums += rows
        self.streak += _ONE
        self.streak *= rows[-1]
        return reward, terminated

    def facts(self, rows: np.ndarray | slice, length: np.ndarray, terminated: np.ndarray) -> np.ndarray:
        """Return, length, success and sums of the reward's terms of the episodes in some rows, ``(terms + 3, N)``; 0 elsewhere.

        Args:
            length, terminated: of these episodes alone.
        """
        own, streak = self.sums[:, rows], self.streak[rows].astype(np.int64)
        facts = np.zeros((len(own) + 1, len(self.streak)))
        facts[0, rows], facts[1, rows], facts[3:, rows] = own[-2], length, own[:-2]
        facts[2, rows] = self._task.success(Episode(length, own[-1] / length, streak, terminated, own[-2]))
        return facts

    def outcome(self, facts: np.ndarray) -> dict[str, np.ndarray]:
        """These by name, each ``(N,)``."""
        named = dict(zip(_labels(self.names), facts, strict=True))
        return named | {"l": named["l"].astype(np.int64), "s": named["s"].astype(bool)}


@lru_cache
def _labels(terms: tuple[str, ...]) -> tuple[str, ...]:
    """Names of what is told of an episode that is over."""
    return ("r", "l", "s", *(f"reward/{name}" for name in terms))
