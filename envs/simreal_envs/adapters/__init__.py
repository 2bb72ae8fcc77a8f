"""Any Gymnasium id as a task: ``Domain("gymnasium:HalfCheetah-v5", variation={"torso/mass": 8.0})``.

Gymnasium's own MuJoCo environments whose observation and reward are functions of the simulator's state run batched on our
MuJoCo engine (`batched`). Every other environment runs as it is, many in one process or spread over worker processes
(`processes`); its imperfections are ours, its constructor arguments are the parameters ``kwargs/NAME``, and if it is made
of a MuJoCo model, bodies and joints are parameters, too.
"""

from __future__ import annotations

import importlib
import re

import gymnasium
from gymnasium.envs.registration import EnvSpec

from simreal_envs.adapters.batched import batched_task, is_batched
from simreal_envs.adapters.faults import dismiss, raised_inside
from simreal_envs.adapters.processes import GymnasiumTask
from simreal_envs.engines.mujoco import keep_warnings_out_of_files
from simreal_envs.errors import Unsupported, UserError, at, nearest, told
from simreal_envs.registration import IDS
from simreal_envs.tasks.base import Task


def gymnasium_task(name: str, where: str = "") -> Task:
    """The task behind a Gymnasium id such as ``HalfCheetah-v5`` or ``my_package:MyEnv-v0``.

    Raises:
        UserError: no such id, or its observations or actions are nothing that our agents know.
        Unsupported: the environment needs a package that is not installed.
    """
    try:
        spec = _spec(name)
        if name not in _made or _made[name][0] is not spec:  # registered anew, as in a notebook
            _made[name] = spec, _task(name, spec)
        return _made[name][1]
    except UserError as error:
        raise type(error)(f"{at(where)}{error}") from error


_made: dict[str, tuple[EnvSpec, Task]] = {}


def _task(name: str, spec: EnvSpec) -> Task:
    keep_warnings_out_of_files()
    try:
        env = gymnasium.make(spec, disable_env_checker=True)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise Unsupported(f"gymnasium:{name} needs a package that is not installed: {error}") from error
    except Exception as error:  # another package's environment may raise anything
        raise UserError(f"gymnasium:{name} cannot be made: {told(error)}") from error
    try:
        for part in ("observation_space", "action_space"):
            if not isinstance(getattr(env, part, None), gymnasium.Space):
                raise UserError(
                    f"gymnasium:{name} has no {part}: every Gymnasium environment says what it shows and takes"
                )
        return batched_task(name, env) if is_batched(env) else GymnasiumTask(name, env, spec)
    except UserError:
        raise
    except Exception as error:  # of a property, or whatever else is asked of it
        if not (place := raised_inside(env, error)):
            raise
        raise UserError(f"gymnasium:{name} does not say what it is: {told(error)} ({place})") from error
    finally:
        dismiss(env)


def _spec(name: str) -> EnvSpec:
    module, _, rest = name.rpartition(":")
    if rest in IDS:
        raise UserError(
            f"gymnasium:{name} is the task {IDS[rest]!r}, which has more parameters and engines by that name"
        )
    try:
        if module:
            importlib.import_module(module)
        return gymnasium.spec(rest)
    except ModuleNotFoundError as error:
        raise Unsupported(f"gymnasium:{name} needs a package that is not installed: {error}") from error
    except gymnasium.error.NamespaceNotFound as error:
        raise UserError(
            f"there is no Gymnasium id {name!r}; if another package brings it, name the package: gymnasium:PACKAGE:{name}"
        ) from error
    except gymnasium.error.Error as error:
        plain = re.sub(r"-v\d+$", "", name)
        known = [i for i in gymnasium.registry if not i.startswith("simreal/")]
        close = [i for i in known if re.sub(r"-v\d+$", "", i) == plain] or known
        if len(close) > 20:
            hint = nearest(name, close).partition("valid:")[0]
            raise UserError(
                f"there is no Gymnasium id {name!r}; {hint}see gymnasium.pprint_registry(), and "
                f"if another package brings it, name the package: gymnasium:PACKAGE:{name}"
            ) from error
        raise UserError(f"there is no Gymnasium id {name!r}; {nearest(name, close)}") from error


__all__ = ["gymnasium_task"]
