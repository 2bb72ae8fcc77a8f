"""What goes wrong inside of somebody else's environment, as one sentence that says where to look."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator

import gymnasium

from simreal_envs.errors import UserError, raised_at, told

_ITS = {
    "reset": "reset(seed=.., options=..) -> observation, info",
    "step": "step(action) -> observation, reward, terminated, truncated, info",
    "render": "render() -> picture",
}


def layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
    """An environment and all that is inside of it, wrappers first."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def dismiss(env: gymnasium.Env) -> None:
    """Close an environment that nobody needs any more. What it raises then costs nothing."""
    with contextlib.suppress(Exception):
        env.close()


def fault(env: gymnasium.Env, method: str, when: str, error: BaseException) -> UserError:
    """What to raise for an error that came of a call of an environment's method, or of reading what it returned.

    Args:
        when: what the environment was to do, as in "in step 3 of the episode with seed 7".
    """
    place, says = raised_inside(env, error), told(error)
    if not place:
        place = _defined_at(env, method)
        if not isinstance(error, UserError):
            says = f"it is not Gymnasium's `{_ITS[method]}`: {says}"
    where = f" ({place})" if place and place not in says else ""
    return UserError(f"gymnasium:{env.spec.id if env.spec else env} fails {when}: {says}{where}")


def raised_inside(env: gymnasium.Env, error: BaseException) -> str:
    """The last place in the packages of an environment, Gymnasium aside, that led to an error; empty where there is none."""
    packages = {type(layer).__module__.partition(".")[0] for layer in layers(env)}
    return raised_at(error, packages - {"gymnasium"} or packages)


def _defined_at(env: gymnasium.Env, method: str) -> str:
    """Where the outermost method of that name that is not Gymnasium's begins, as ``FILE:LINE``; empty where there is none."""
    for layer in layers(env):
        code = getattr(inspect.unwrap(getattr(type(layer), method)), "__code__", None)
        if code and not type(layer).__module__.startswith("gymnasium."):
            return f"{code.co_filename}:{code.co_firstlineno}"
    return ""
