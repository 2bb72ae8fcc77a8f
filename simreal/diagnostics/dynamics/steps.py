"""Transitions, and what their columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simreal.diagnostics.statistics import FloatArray

FEWEST = 10  # rows, below which nothing is said
FIRST = 10  # steps in which an agent that fails is still where it was at home


@dataclass(frozen=True)
class Steps:
    """n transitions, those of an episode one after the other.

    Attributes:
        states, following: ``(n, d)`` float64, before and after.
        actions: ``(n, a)`` float64, choices one-hot.
        episode: ``(n,)``, the same within an episode.
    """

    states: FloatArray
    following: FloatArray
    actions: FloatArray
    episode: np.ndarray

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class Names:
    """What columns are called.

    Attributes:
        fields: observation field -> label of every one of its columns, in the order of the columns.
        actions: label of every action channel, or of every choice.
        discrete: whether an action is one choice.
    """

    fields: Mapping[str, tuple[str, ...]]
    actions: tuple[str, ...]
    discrete: bool = False

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Field -> its columns."""
        ends = np.cumsum([len(labels) for labels in self.fields.values()])
        return {
            f: np.arange(end - len(labels), end) for (f, labels), end in zip(self.fields.items(), ends, strict=True)
        }

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """``FIELD`` for the only column of a field, else ``FIELD/LABEL``."""
        return tuple(f if len(labels) == 1 else f"{f}/{label}" for f, labels in self.fields.items() for label in labels)


def starts(steps: Steps) -> FloatArray:
    """First states of episodes ``(e, d)``."""
    return steps.states[np.unique(steps.episode, return_index=True)[1]]


def beginnings(target: Steps) -> Steps:
    """The first steps of every episode: there even an agent that fails is where it was before."""
    rows = within(target, FIRST)
    return Steps(target.states[rows], target.following[rows], target.actions[rows], target.episode[rows])


def within(target: Steps, steps: int) -> np.ndarray:
    """Rows of the first so many steps of an episode."""
    start = np.flatnonzero(np.r_[True, target.episode[1:] != target.episode[:-1]])
    return np.flatnonzero(np.arange(len(target)) - np.repeat(start, np.diff(np.r_[start, len(target)])) < steps)


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of these rows, evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
