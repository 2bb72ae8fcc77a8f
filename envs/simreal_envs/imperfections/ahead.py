"""Random numbers of control steps, drawn for many steps at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import ndtri

from simreal_envs.engines.base import any_of
from simreal_envs.parameters import Draws

_NUMBERS = 16384  # that are drawn at once, about: many small calls cost more than one large one, up to the cache's size
_MOST = 16  # control steps
_NEVER = -(1 << 40)  # no episode gets there


class StepDraws:
    """Numbers that N worlds need at every control step. A draw is a function of its key: it is the same whenever it is made.

    Args:
        sizes: name -> how many numbers of this name each control step takes.
        after: names whose numbers belong to the end of the control step, where the count of steps is one more.
        normal: names whose numbers are standard normal; the others are uniform in (0, 1).
        ahead: control steps that are drawn at a time; 0 takes what costs little time and memory.
    """

    def __init__(
        self,
        num_worlds: int,
        sizes: Mapping[str, int],
        after: tuple[str, ...] = (),
        normal: tuple[str, ...] = (),
        ahead: int = 0,
    ):
        ends = np.cumsum(list(sizes.values())).tolist()
        self._sizes = tuple(sizes.items())
        columns = self._columns = dict(zip(sizes, map(slice, [0, *ends], ends), strict=False))
        self._normal = [columns[name] for name in normal if name in sizes]
        self._after = np.array([name in after for name in sizes], dtype=np.int64)
        self._ahead = ahead or min(_MOST, max(1, _NUMBERS // (num_worlds * ends[-1])))
        self._table = np.empty((self._ahead, num_worlds, ends[-1]))
        self._named = [{name: row[:, part] for name, part in columns.items()} for row in self._table]
        self._row = self._ahead - 1  # of the current step
        self._first = np.full(num_worlds, _NEVER)  # step of each world that the first row belongs to
        self._everyone = np.arange(num_worlds)

    def forget(self, ids: np.ndarray | slice) -> None:
        """New episodes of some worlds: their draws are others."""
        self._first[ids] = _NEVER

    def advance(self) -> None:
        """Another control step begins."""
        self._row += 1
        if self._row == self._ahead:
            self._row = 0
            self._first[:] = _NEVER

    def at(self, draws: Draws, steps: np.ndarray) -> dict[str, np.ndarray]:
        """Numbers of all worlds in the control steps that began when these were done, ``(N,)``; each ``(N, size)``."""
        if any_of(other := steps - self._row != self._first):
            worlds = np.flatnonzero(other)
            self._fill(worlds, draws if len(worlds) == len(steps) else draws.take(worlds), steps[worlds])
        return self._named[self._row]

    def start(self, draws: Draws, ids: np.ndarray | slice) -> dict[str, np.ndarray]:
        """What belongs to the end of a step, for worlds `ids` before their first; draws are theirs; each ``(n, size)``."""
        self._fill(ids, draws, np.full(len(draws.keys), -1))
        rows = self._table[self._row, ids]
        return {name: rows[:, columns] for name, columns in self._columns.items()}

    def _fill(self, worlds: np.ndarray | slice, draws: Draws, steps: np.ndarray) -> None:
        """Draw the numbers of some worlds from the current row on; `draws` and `steps` are theirs."""
        self._first[worlds] = steps - self._row
        coming = (steps[:, None] + np.arange(self._ahead - self._row))[:, :, None] + self._after
        numbers = draws.table(self._sizes, coming)
        for columns in self._normal:
            ndtri(numbers[:, :, columns], out=numbers[:, :, columns])
        self._table[self._row :, worlds] = numbers.swapaxes(0, 1)
