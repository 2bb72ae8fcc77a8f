"""Worlds that are objects of somebody else's, in groups that live in this process or in worker processes."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from simreal_envs.lockstep import Partner


class Fleets:
    """N worlds in groups: one in this process, or one in each of some worker processes.

    Args:
        make: makes a group of so many worlds (its last argument): an object with methods, ``close`` among them.
        arguments: of `make` before the number.
        num_workers: processes; 0: none. They are spawned: a script that asks for them needs the usual
            ``if __name__ == "__main__":``.
    """

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...], num_worlds: int, num_workers: int):
        bounds = np.linspace(0, num_worlds, max(min(num_workers, num_worlds), 1) + 1).astype(int).tolist()
        self.rows = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        groups = [(*arguments, rows.stop - rows.start) for rows in self.rows]
        self.members: list[Here | Partner] = []
        try:
            for group in groups:
                self.members.append(Partner(make, group, busy=0.0) if num_workers > 0 else Here(make, group))
            for member in self.members:
                member.answer()  # it has made its worlds
        except BaseException:
            self.close()
            raise

    def call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One call per group, each with its own arguments; all begin before the first answer is awaited."""
        for member, own in zip(self.members, arguments, strict=True):
            member.call(method, *own)
        return [member.answer() for member in self.members]

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """The same call for every group."""
        return self.call(method, [arguments] * len(self.members))

    def some(self, method: str, ids: np.ndarray, *columns: np.ndarray | Mapping[str, np.ndarray]) -> list[Any]:
        """Call the groups that hold any of the worlds `ids` (sorted) with their own ids and rows of some columns."""
        called = []
        for member, rows in zip(self.members, self.rows, strict=True):
            mine = np.flatnonzero((ids >= rows.start) & (ids < rows.stop))
            if len(mine):
                member.call(method, ids[mine] - rows.start, *(_rows(column, mine) for column in columns))
                called.append(member)
        return [member.answer() for member in called]

    def one(self, method: str, world: int) -> Any:
        """Call the group that holds a world with the world's place in it."""
        places = zip(self.members, self.rows, strict=True)
        member, first = next((member, rows.start) for member, rows in places if rows.start <= world < rows.stop)
        member.call(method, world - first)
        return member.answer()

    def close(self) -> None:
        for member in self.members:
            member.close()


def _rows(column: np.ndarray | Mapping[str, np.ndarray], mine: np.ndarray) -> Any:
    return {name: array[mine] for name, array in column.items()} if isinstance(column, Mapping) else column[mine]


class Here:
    """An object in this process, behind the calls of a `Partner`.

    Args:
        make, arguments: see `Partner`.
    """

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]):
        self._made, self._answer = make(*arguments), None
        self._finalizer = weakref.finalize(self, self._made.close)

    def call(self, method: str, *arguments: Any) -> None:
        self._answer = getattr(self._made, method)(*arguments)

    def answer(self) -> Any:
        return self._answer

    def close(self) -> None:
        self._finalizer()
