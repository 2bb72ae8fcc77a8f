"""The engines by the name that users type: ours and those that other packages bring.

A package brings an engine through the entry-point group ``simreal.engines``::

    [project.entry-points."simreal.engines"]
    my_engine = "my_package.engine:MyEngine"        # called as MyEngine(robot, preset, num_worlds, num_workers)

`simreal_envs.engines.check.check_engine` tells whether it keeps the contract of `simreal_envs.engines.base.Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint

from simreal_envs.engines.base import Engine, Robot
from simreal_envs.engines.support import BULLET, MUJOCO
from simreal_envs.entry_points import brought, versions_of
from simreal_envs.errors import Unsupported, UserError, require_known, told

GROUP = "simreal.engines"
_OURS = {"mujoco": MUJOCO, "bullet": BULLET}
BUILT_IN = tuple(_OURS)


def engine_names() -> tuple[str, ...]:
    """Names of all engines that are installed: ours first, then those of other packages."""
    return (*BUILT_IN, *sorted(_entry_points()))


def start_engine(
    name: str, robot: Robot, preset: str, num_worlds: int, num_threads: int = 1, num_workers: int = 0
) -> Engine:
    """Start an engine with every parameter at nominal.

    Raises:
        UserError: no such engine.
        Unsupported: something that it needs is not installed, or it cannot simulate this robot.
    """
    require_known(name, engine_names(), "engine")
    if name == "mujoco":
        from simreal_envs.engines.mujoco import MujocoEngine

        return MujocoEngine(robot, preset, num_worlds, num_threads)
    if name == "bullet":
        from simreal_envs.engines.bullet import BulletEngine

        return BulletEngine(robot, preset, num_worlds)
    return _bring(_entry_points()[name])(robot, preset, num_worlds, num_workers)


def takes(name: str, robot: Robot) -> bool:
    """Whether an engine can simulate a robot, as far as that is known without starting it."""
    if name != "bullet":
        return True
    from simreal_envs.engines.bullet_plan import blueprint

    try:
        blueprint(robot, "matched")
    except UserError:
        return False
    return True


def support_of(name: str) -> Mapping[str, str]:
    """What an engine does of the quantities that parameters change, see `Engine.support`.

    Raises:
        Unsupported: the engine cannot be loaded.
    """
    if name in _OURS:
        return _OURS[name]
    others = _entry_points()
    return getattr(_bring(others[name]), "support", {}) if name in others else {}


def packages(names: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that these engines come from by an entry point, by package."""
    return versions_of(_entry_points(), names)


@cache
def _bring(point: EntryPoint) -> Callable[[Robot, str, int, int], Engine]:
    """The engine behind an entry point."""
    try:
        return point.load()
    except Exception as error:  # another package's code may raise anything
        raise Unsupported(f"the engine {point.name!r} ({point.value}) cannot be loaded: {told(error)}") from error


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return brought(GROUP, BUILT_IN)
