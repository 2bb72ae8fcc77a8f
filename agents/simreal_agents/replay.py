"""What an off-policy learner remembers: a ring of transitions, as flat arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from simreal_agents.state import Rows
from simreal_envs.errors import UserError

BLOCK_BYTES = 500_000  # of observations that are drawn at once, as they stay in the processor's cache


class Batch(NamedTuple):
    """Transitions, in memory of their own. Several batches at once have a leading axis more.

    Attributes:
        both: ``(2n, size)``: the rows before the n actions, then those after them.
        actions: ``(n, a)`` or ``(n,)``, as they were stored.
        rewards: ``(n,)`` float32.
        terminated: ``(n,)`` bool.
    """

    both: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray

    @property
    def observations(self) -> np.ndarray:
        """What was observed before the actions."""
        return self.both[: len(self.rewards)]

    @property
    def next_observations(self) -> np.ndarray:
        """What was observed after them, before a reset."""
        return self.both[len(self.rewards) :]

    def split(self) -> Iterator[Batch]:
        """The batches along the leading axis."""
        return map(Batch, *self)


class Replay:
    """The last `capacity` transitions of all worlds.

    Memory is asked for at once but costs nothing before it is written.

    Args:
        capacity: how many transitions it holds.
        size, dtype: of an observation's row (see `Layout`).
        action_shape, action_dtype: of an action as it is stored: ``(a,)`` float32, or ``()`` int64.

    Attributes:
        written: transitions ever written.

    Raises:
        UserError: for a capacity below 1.
    """

    def __init__(
        self,
        capacity: int,
        size: int,
        dtype: np.dtype | type,
        action_shape: tuple[int, ...],
        action_dtype: np.dtype | type = np.float32,
    ):
        if capacity < 1:
            raise UserError(f"buffer_size must be at least 1, got {capacity}")
        self.capacity, self.written = int(capacity), 0
        self._columns = {
            "observations": np.empty((self.capacity, size), dtype),
            "next_observations": np.empty((self.capacity, size), dtype),
            "actions": np.empty((self.capacity, *action_shape), action_dtype),
            "rewards": np.empty(self.capacity, np.float32),
            "terminated": np.empty(self.capacity, bool),
        }

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(
        self,
        observations: np.ndarray,
        next_observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
    ) -> None:
        """Copy N transitions, one per world; `next_observations` are those before a reset.

        Of more than `capacity` transitions the last ones are kept.

        Raises:
            UserError: for arrays of another shape than this buffer's; nothing was copied then.
        """
        rows = dict(zip(self._columns, (observations, next_observations, actions, rewards, terminated), strict=True))
        n, start = len(rewards), self.written % self.capacity
        for name, column in self._columns.items():
            if np.shape(rows[name]) != (n, *column.shape[1:]):
                wanted = (n, *column.shape[1:])
                raise UserError(f"the replay buffer takes {name} of shape {wanted}, got {np.shape(rows[name])}")
        self.written += n
        if start + n <= self.capacity:
            for name, column in self._columns.items():
                column[start : start + n] = rows[name]
            return
        kept = slice(max(0, n - self.capacity), n)
        places = (start + np.arange(n)[kept]) % self.capacity
        for name, column in self._columns.items():
            column[places] = rows[name][kept]

    def sample(self, generator: torch.Generator, n: int) -> Batch:
        """`n` transitions, each drawn uniformly with replacement."""
        return next(self._draw(generator, 1, n).split())

    def batches(self, generator: torch.Generator, count: int, n: int) -> Iterator[Batch]:
        """`count` batches of `n` transitions, as many at once as are small enough; the draws are those of `sample`."""
        columns = self._columns["observations"]
        most = max(1, BLOCK_BYTES // (2 * n * columns[:1].nbytes))
        for start in range(0, count, most):
            yield self._draw(generator, min(most, count - start), n)

    def _draw(self, generator: torch.Generator, count: int, n: int) -> Batch:
        places = torch.randint(len(self), (count, n), generator=generator).numpy()
        columns = self._columns
        both = np.empty((count, 2, n, columns["observations"].shape[1]), columns["observations"].dtype)
        for (before, after), rows in zip(both, places, strict=True):
            # mode="clip": places are in range, and numpy writes into `out` directly only if it need not raise.
            columns["observations"].take(rows, axis=0, out=before, mode="clip")
            columns["next_observations"].take(rows, axis=0, out=after, mode="clip")
        rest = (columns[name].take(places, axis=0) for name in ("actions", "rewards", "terminated"))
        return Batch(both.reshape(count, 2 * n, -1), *rest)

    def state(self) -> Rows:
        """Its rows for a training state or a bundle, without a copy: write them before more come."""
        return Rows(self._columns, self.written)

    def restore(self, rows: Rows) -> None:
        """Take over the rows of another one, whose arrays must not be used any more.

        Raises:
            UserError: when they are of another shape.
        """
        forms = [
            {name: (c.shape[1:], c.dtype) for name, c in columns.items()} for columns in (self._columns, rows.columns)
        ]
        if forms[0] != forms[1] or rows.capacity != self.capacity:
            raise UserError(
                f"the replay buffer holds {self.capacity} transitions of {forms[0]}, got {rows.capacity} of {forms[1]}"
            )
        self._columns, self.written = dict(rows.columns), rows.written
