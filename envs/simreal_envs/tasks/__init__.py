"""All tasks by the name that users type: ours, those that other packages bring, and any Gymnasium id.

`find_task` looks a name up. A package brings tasks through the entry-point group ``simreal.tasks``::

    [project.entry-points."simreal.tasks"]
    my_robot = "my_package.my_robot:MyRobot"        # a subclass of Task, whose name is "my_robot"

Names with a prefix are made when they are asked for: ``gymnasium:HalfCheetah-v5`` (`simreal_envs.adapters`),
``minatar:breakout`` and ``ale:pong`` (`simreal_envs.games`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

import gymnasium

from simreal_envs import registration
from simreal_envs.entry_points import brought, installed, origin, versions_of
from simreal_envs.errors import Unsupported, UserError, at, nearest, told
from simreal_envs.registration import BUILT_IN
from simreal_envs.tasks.base import Task
from simreal_envs.tasks.contract import check_task

GROUP = "simreal.tasks"
# What names begin with -> module and function (name, where) -> Task of those that are made when they are asked for.
FAMILIES = {
    "gymnasium:": ("simreal_envs.adapters", "gymnasium_task"),
    "minatar:": ("simreal_envs.games.minatar", "minatar_task"),
    "ale:": ("simreal_envs.games.ale", "ale_task"),
}
_CLASSES = {path.partition(":")[2]: path for path in BUILT_IN.values()}


class BuiltIn(MutableMapping[str, Task]):
    """Our own tasks. Each module is imported when its task is first asked for, so that one that lacks a package of its
    own stops nobody else.

    Args:
        paths: name -> ``module:class`` in a package.
        package: the package, by default this one.
    """

    def __init__(self, paths: Mapping[str, str], package: str = __name__) -> None:
        self._paths, self._package = paths, package
        self._tasks: dict[str, Task | None] = dict.fromkeys(paths)

    def __getitem__(self, name: str) -> Task:
        task = self._tasks[name]
        if task is None:
            task = self._tasks[name] = _class(self._paths[name], self._package)()
        return task

    def __setitem__(self, name: str, task: Task) -> None:
        self._tasks[name] = task

    def comes_with(self, name: str) -> bool:
        """Whether the task of this name is our own, and none that a script has put in its place."""
        path = self._paths.get(name)
        return path is not None and type(self[name]) is _class(path, self._package)

    def __delitem__(self, name: str) -> None:
        del self._tasks[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tasks  # without importing it

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


TASKS = BuiltIn(BUILT_IN)  # for a robot
GAMES = BuiltIn(registration.GAMES, "simreal_envs.games")


def find_task(name: str, where: str = "") -> Task:
    """The task with this name: one of `TASKS` or `GAMES`, of another package's entry points, or of `FAMILIES`.

    Args:
        where: file and key the name came from, to begin an error sentence with.

    Raises:
        UserError: no such task; the sentence names the nearest.
        Unsupported: the task exists, but something that it needs is not installed.
    """
    name = str(name)
    others = _entry_points()
    if own := next((tasks for tasks in (TASKS, GAMES) if name in tasks), None):
        try:
            return own[name]
        except ImportError as error:
            raise Unsupported(f"{at(where)}the task {name!r} cannot be loaded: {error}") from error
    if family := next((prefix for prefix in FAMILIES if name.startswith(prefix)), None):
        module, function = FAMILIES[family]
        return getattr(importlib.import_module(module), function)(name.removeprefix(family), where)
    if name in others:
        return _bring(others[name])
    hint = f"did you mean 'gymnasium:{name}'? " if name in gymnasium.registry else ""
    raise UserError(
        f"{at(where)}unknown task {name!r}; {hint}{nearest(name, [*TASKS, *GAMES, *others])}, gymnasium:ID for any Gymnasium id, "
        "minatar:GAME or ale:GAME"
    )


def is_installed(name: str) -> bool:
    """Whether any process finds a task by its name, not only one in which a script has added it to `TASKS`."""
    if own := next((tasks for tasks in (TASKS, GAMES) if name in tasks), None):
        return own.comes_with(name)
    return ":" in name or name in _entry_points()


def task_names() -> list[str]:
    """Names of all tasks that are installed: ours first, then those of other packages."""
    return [*TASKS, *GAMES, *sorted(_entry_points())]


def packages(names: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that these tasks come from, or say that they depend on, by package."""
    names = set(names)
    return versions_of(_entry_points(), names) | installed({p for name in names for p in find_task(name).packages})


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return brought(GROUP, {*BUILT_IN, *registration.GAMES})


@cache
def _bring(point: EntryPoint) -> Task:
    """The task behind an entry point: a subclass of Task, or one that is made already."""
    what = f"the task {point.name!r} of {origin(point)}"
    try:
        found = point.load()
        task = found() if isinstance(found, type) and issubclass(found, Task) else found
    except Exception as error:  # another package's code may raise anything
        raise Unsupported(f"{what} cannot be loaded: {told(error)}") from error
    if not isinstance(task, Task):
        raise UserError(f"{what} is not a Task but {found!r}")
    if task.name != point.name:
        raise UserError(f"{what} calls itself {task.name!r}; the entry point must have the same name")
    check_task(task)
    return task


def _class(path: str, package: str = __name__) -> type[Task]:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"{package}.{module}"), name)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return _class(_CLASSES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["GAMES", "TASKS", "Task", "check_task", "find_task", "task_names"]
