"""Worlds that are objects of somebody else's, in groups that live in this process or in worker processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np

CLOSE_SECONDS = 5.0


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
        self.members = start_fleets(make, groups, apart=num_workers > 0)

    def call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """One call per group, each with its own arguments; all begin before the first answer is awaited."""
        for fleet, own in zip(self.members, arguments, strict=True):
            fleet.send(method, own)
        return [fleet.receive() for fleet in self.members]

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """The same call for every group."""
        return self.call(method, [arguments] * len(self.members))

    def some(self, method: str, ids: np.ndarray, *columns: np.ndarray | Mapping[str, np.ndarray]) -> list[Any]:
        """Call the groups that hold any of the worlds `ids` (sorted) with their own ids and rows of some columns."""
        called = []
        for fleet, rows in zip(self.members, self.rows, strict=True):
            mine = np.flatnonzero((ids >= rows.start) & (ids < rows.stop))
            if len(mine):
                fleet.send(method, (ids[mine] - rows.start, *(_rows(column, mine) for column in columns)))
                called.append(fleet)
        return [fleet.receive() for fleet in called]

    def one(self, method: str, world: int) -> Any:
        """Call the group that holds a world with the world's place in it."""
        member = next(i for i, rows in enumerate(self.rows) if rows.start <= world < rows.stop)
        return self.members[member].call(method, (world - self.rows[member].start,))

    def close(self) -> None:
        for fleet in self.members:
            fleet.close()


def _rows(column: np.ndarray | Mapping[str, np.ndarray], mine: np.ndarray) -> Any:
    return {name: array[mine] for name, array in column.items()} if isinstance(column, Mapping) else column[mine]


class Fleet(Protocol):
    """A group of environments behind calls by name: `send` begins one, `receive` waits for its answer.

    Args:
        make: makes the group, such as `Envs`: an object with methods, ``close`` among them.
        arguments: of `make`.
    """

    def send(self, method: str, arguments: tuple[Any, ...]) -> None: ...

    def receive(self) -> Any: ...

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        self.send(method, arguments)
        return self.receive()

    def close(self) -> None: ...


class Here(Fleet):
    """In this process."""

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]):
        self._envs, self._answer = make(*arguments), None
        self._finalizer = weakref.finalize(self, self._envs.close)

    def send(self, method: str, arguments: tuple[Any, ...]) -> None:
        self._answer = getattr(self._envs, method)(*arguments)

    def receive(self) -> Any:
        return self._answer

    def close(self) -> None:
        self._finalizer()


class Apart(Fleet):
    """In a process of their own, which leaves when its pipe closes: when this process dies, however it dies."""

    def __init__(self, make: Callable[..., Any], arguments: tuple[Any, ...]):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._finalizer = weakref.finalize(self, stop_process, os.getpid(), self._pipe, self._process)

    def send(self, method: str, arguments: tuple[Any, ...]) -> None:
        self._pipe.send((method, arguments))

    def receive(self) -> Any:
        try:
            good, answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(CLOSE_SECONDS)
            raise RuntimeError(f"a process with environments died with exit code {self._process.exitcode}") from None
        if not good:
            raise answer
        return answer

    def close(self) -> None:
        self._finalizer()


def start_fleets(make: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], apart: bool) -> list[Fleet]:
    """One fleet for each of some arguments of `make`, in a process of its own where `apart`."""
    kind = Apart if apart else Here
    fleets: list[Fleet] = []
    try:
        for each in arguments:
            fleets.append(kind(make, each))
        for fleet in fleets if apart else ():
            fleet.receive()  # it has made its environments
    except BaseException:
        for fleet in fleets:
            fleet.close()
        raise
    return fleets


def serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What a worker process does: answer calls until the pipe closes."""
    envs = None
    try:
        envs = make(*arguments)
        pipe.send((True, None))
    except Exception as error:
        pipe.send((False, error))
        return
    try:
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send((True, getattr(envs, method)(*arguments)))
            except Exception as error:
                pipe.send((False, error))
    except (EOFError, OSError, KeyboardInterrupt):
        envs.close()


def stop_process(owner: int, pipe: Connection, process: Any) -> None:
    """End a process of `owner`, which leaves when its pipe closes, by force if it must be."""
    if os.getpid() != owner:
        return  # a forked copy of the owner has no say over its workers
    pipe.close()
    process.join(CLOSE_SECONDS)
    if process.is_alive():
        process.terminate()
        process.join()
    process.close()
