"""Parameters of episodes to come, applied ahead: a reset then copies numbers instead of computing them.

They are applied to worlds that nobody simulates, by the code that applies them to the real ones, `mj_setConst`
included. Many at once cost a fraction of what one at a time costs between two steps, when no cache knows them any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import mujoco
import numpy as np
from mujoco.batch import MODEL_FIELDS, Batch

from simreal_envs.engines.base import Robot
from simreal_envs.engines.mujoco_parameters import MujocoParameters

_AT_ONCE = 128  # worlds that are prepared at a time: few enough to stay in the cache
# Of the drives' long rows only these numbers are ever written.
_COLUMNS = {"actuator_gear": (0,), "actuator_gainprm": (0,), "actuator_biasprm": (1, 2)}
_FEW = 4  # worlds up to which copying one after the other is quicker


class _Piece(NamedTuple):
    """Numbers of every world that lie side by side in a row: of a model field, or of what the fields cannot tell."""

    name: str
    column: int | None  # of a field's last axis; None: all of it
    own: bool
    part: slice


class PreparedParameters:
    """Rows of numbers that stand for the values of some parameters, for the worlds of a batch.

    Args:
        parameters: those of the worlds.
        names: of the parameters that are prepared. All others have to be as the robot's model has them.
        num_threads: that prepare them.
    """

    def __init__(
        self,
        robot: Robot,
        model: mujoco.MjModel,
        parameters: MujocoParameters,
        names: frozenset[str],
        num_threads: int,
    ):
        self.names = names
        self._theirs = parameters
        self._batch = Batch(model, _AT_ONCE, num_threads)
        self._mine = MujocoParameters(robot, model, self._batch)
        self._expanded: tuple[str, ...] = ()
        self._pieces: list[_Piece] = []
        self._targets: list[tuple[np.ndarray, slice]] = []

    def rows(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """What `write` needs to put these values, each ``(m,)``, in force: float64 ``(m, k)``.

        The number of columns may grow from one call to the next; rows of before are then of no more use.
        """
        count = len(next(iter(values.values())))
        while True:
            rows = np.empty((count, self._pieces[-1].part.stop if self._pieces else 0))
            for start in range(0, count, _AT_ONCE):
                chunk = {name: value[start : start + _AT_ONCE] for name, value in values.items()}
                self._write_chunk(chunk, rows[start : start + _AT_ONCE])
            expanded = tuple(name for name in sorted(MODEL_FIELDS) if self._batch.expanded(name) is not None)
            if expanded == self._expanded:  # nearly always, from the second call on
                return rows
            self._expanded, self._targets = expanded, []
            self._pieces = list(self._layout(expanded, self._mine.own_of(self.names)))

    def _write_chunk(self, values: Mapping[str, np.ndarray], rows: np.ndarray) -> None:
        self._mine.apply(np.arange(len(rows)), values)
        for piece in self._pieces:
            rows[:, piece.part] = self._numbers(self._mine, self._batch, piece)[: len(rows)]

    def _layout(self, fields: tuple[str, ...], own: tuple[str, ...]) -> Iterator[_Piece]:
        start = 0
        names = [(name, column, False) for name in fields for column in _COLUMNS.get(name, (None,))]
        for name, column, is_own in [*names, *((name, None, True) for name in own)]:
            piece = _Piece(name, column, is_own, slice(start, start))
            start += self._numbers(self._mine, self._batch, piece).shape[1]
            yield piece._replace(part=slice(piece.part.start, start))

    def _numbers(self, parameters: MujocoParameters, batch: Batch, piece: _Piece) -> np.ndarray:
        """The numbers of a piece in all worlds, ``(N, k)``, to be read and written in place."""
        array = parameters.own[piece.name] if piece.own else batch.expand(piece.name)
        numbers = array.reshape(len(array), -1) if piece.column is None else array[..., piece.column]
        assert np.may_share_memory(numbers, array) or not numbers.size  # a view, not a copy
        return numbers

    def write(self, batch: Batch, ids: np.ndarray, rows: np.ndarray) -> None:
        """Put rows in force in the worlds `ids`, to the same bits as `MujocoParameters.apply` and their values."""
        if not self._targets:
            self._targets = [(self._numbers(self._theirs, batch, piece), piece.part) for piece in self._pieces]
        if len(ids) > _FEW:
            for numbers, part in self._targets:
                numbers[ids] = rows[:, part]
            return
        for row, world in zip(rows, ids.tolist(), strict=True):
            for numbers, part in self._targets:
                numbers[world] = row[part]
