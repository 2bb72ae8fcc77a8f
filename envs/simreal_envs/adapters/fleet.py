"""Some copies of one Gymnasium environment."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator

from simreal_envs.adapters.faults import dismiss, fault
from simreal_envs.adapters.machine import Machine, write_parameters
from simreal_envs.adapters.spaces import Flattening
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.errors import Unsupported, UserError, told

KWARGS = "kwargs/"


def sound(observations: np.ndarray) -> np.ndarray:
    """Which numbers are finite for an agent, who sees them in single precision."""
    with np.errstate(over="ignore"):
        return np.isfinite(observations.astype(np.float32, copy=False))


class Step(NamedTuple):
    """What came of a step of one environment.

    Attributes:
        met: whether the goal is, as the environment says of it; where it says nothing, whether the step paid.
    """

    observation: np.ndarray
    reward: float
    met: bool
    terminated: bool
    truncated: bool


class Envs:
    """The copies. Rows of every array are environments.

    An environment that has to be made anew in the middle of an episode is brought back to where it was: the seed and the
    actions of every running episode are kept for that.
    """

    def __init__(self, spec: EnvSpec, machine: Machine | None, count: int):
        self._spec, self._draws, self._defaults = spec, draws(creator_of(spec)), defaults_of(spec)
        self._kwargs: list[dict[str, float]] = [{} for _ in range(count)]
        self._form: tuple[Any, ...] = ()  # of observation and action, which every environment must have
        self._envs: list[Any] = [self._make({}) for _ in range(count)]
        self._parameters: Any = MujocoEngine(machine, "matched", count) if machine else None
        self._stale = np.zeros(count, dtype=bool)  # made with other arguments than it should have now
        self._seeds = np.full(count, -1)
        self._logs: list[list[np.ndarray]] = [[] for _ in range(count)]
        self._last: list[Step | None] = [None] * count
        self._space: Any = self._envs[0].action_space
        self._flat = Flattening(self._envs[0].observation_space)
        self._disturbed = np.zeros(count, dtype=bool)
        self._masked = False

    def _make(self, kwargs: Mapping[str, float]) -> gymnasium.Env:
        """An environment that is given these arguments.

        Raises:
            UserError: its constructor refuses them, or with them it shows or takes something of another form.
        """
        arguments = {name: self._typed(name, value) for name, value in kwargs.items()}
        if self._draws and "render_mode" not in self._spec.kwargs:
            arguments["render_mode"] = "rgb_array"
        try:
            env = gymnasium.make(self._spec, disable_env_checker=True, **arguments)
        except Exception as error:  # whatever somebody else's constructor raises
            given = f" with {_listed(kwargs)}" if kwargs else ""
            raise UserError(f"gymnasium:{self._spec.id} cannot be made{given}: {told(error)}") from error
        self._form = self._form or form_of(env)
        if form_of(env) != self._form:
            dismiss(env)
            raise UserError(
                f"gymnasium:{self._spec.id} with {_listed(kwargs)} observes {env.observation_space} and takes "
                f"{env.action_space} actions; worlds and agents need the form that these have without it"
            )
        return env

    def _typed(self, name: str, value: float) -> Any:
        """A number as the constructor expects it."""
        given = self._spec.kwargs.get(name, self._defaults.get(name))
        if isinstance(given, bool):
            return bool(value)
        return round(value) if isinstance(given, int) and float(value).is_integer() else value

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        own = {name: value for name, value in values.items() if not name.startswith(KWARGS)}
        if own:
            self._parameters.apply(ids, own)
        for k, i in enumerate(ids.tolist()):
            new = {name.removeprefix(KWARGS): float(v[k]) for name, v in values.items() if name.startswith(KWARGS)}
            changed = {name: value for name, value in new.items() if self._kwargs[i].get(name) != value}
            if changed:
                self._kwargs[i] |= changed
                self._stale[i] = True
            elif own and not self._stale[i]:
                write_parameters(self._parameters, i, self._envs[i].unwrapped.model)
        self._disturbed[ids] = True

    def read(self, name: str, nominal: float) -> np.ndarray:
        if not name.startswith(KWARGS):
            return self._parameters.read(name)
        return np.array([kwargs.get(name.removeprefix(KWARGS), nominal) for kwargs in self._kwargs])

    def reset(self, ids: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Begin new episodes; returns the observations."""
        seen = []
        for i, seed in zip(ids.tolist(), seeds.tolist(), strict=True):
            if self._stale[i]:
                self._renew(i)
            self._seeds[i], self._logs[i], self._last[i] = seed, [], None
            seen.append(self._begin(i))
        self._disturbed[ids] = False
        return np.array(seen)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """One step of every environment. One whose episode is over stays where it is until its reset.

        Raises:
            UserError: one cannot.
        """
        rows = [self._step(i, action) for i, action in enumerate(actions)]
        return tuple(np.array(column) for column in zip(*rows, strict=True))

    def masked(self, i: int) -> bool:
        """Whether infos tell which choices there are, as of the last reset of any."""
        return self._masked

    def refuse(self, i: int) -> None:
        """Raise a UserError about an environment whose first step, as that of all others, was not finite."""
        wrong = "its reward" if sound(self._last[i].observation).all() else "what it observes"
        raise fault(self._envs[i], "step", "in its first step in every world", UserError(f"{wrong} is not finite"))

    def _step(self, i: int, action: np.ndarray) -> Step:
        if self._stale[i]:
            self._renew(i)
            self._play(i)
        last = self._last[i]
        if last is not None and (last.terminated or last.truncated):
            return last._replace(reward=0.0, met=False)
        self._logs[i].append(np.array(action))
        self._last[i] = self._advance(i, action, len(self._logs[i]))
        return self._last[i]

    def _begin(self, i: int) -> np.ndarray:
        """Reset an environment with its seed; what it shows.

        Raises:
            UserError: it cannot, or shows numbers that are not finite.
        """
        env, seed = self._envs[i], int(self._seeds[i])
        try:
            answer = env.reset(seed=seed)
            if isinstance(answer, (np.ndarray, Mapping)):  # one of two numbers could be taken for two answers
                raise TypeError("an observation alone")
            seen = self._flat(answer[0])
            if not sound(seen).all():
                k = int(np.argmin(sound(seen)))
                raise UserError(f"number {k} of its {seen.size} observed numbers is {seen[k]}")
            self._masked = isinstance(answer[1], Mapping) and "action_mask" in answer[1]
            return seen
        except (Exception, SystemExit) as error:  # somebody else's environment may do and return anything
            raise fault(env, "reset", f"at the start of the episode with seed {seed}", error) from error

    def _advance(self, i: int, action: np.ndarray, number: int) -> Step:
        """One step, which is this number in its episode."""
        env = self._envs[i]
        try:
            return self._read(*env.step(self._given(action)))
        except (Exception, SystemExit) as error:
            when = f"in step {number} of the episode with seed {self._seeds[i]}"
            raise fault(env, "step", when, error) from error

    def _given(self, action: np.ndarray) -> Any:
        """An action as the environment takes it."""
        space = self._space
        if isinstance(space, spaces.Discrete):
            return space.start + action[0].astype(space.dtype)
        given = np.clip(action.reshape(space.shape), space.low, space.high)
        return (np.rint(given) if np.issubdtype(space.dtype, np.integer) else given).astype(space.dtype)

    def _read(self, shown: Any, reward: Any, terminated: Any, truncated: Any, info: Mapping[str, Any] | None) -> Step:
        """What an environment's step returned. That a reward is an array of one number, or info None, Gymnasium lets pass."""
        paid = reward.item() if isinstance(reward, np.ndarray) else float(reward)
        info = {} if info is None else info
        met = info.get("is_success", info.get("success", paid > 0))
        return Step(self._flat(shown), paid, bool(np.all(met)), bool(terminated), bool(truncated))

    def logs(self) -> list[np.ndarray]:
        """The actions of the running episodes, each ``(length, a)``."""
        changed = [i for i, log in enumerate(self._logs) if log and self._disturbed[i]]
        if changed:
            raise Unsupported("parameters of a Gymnasium environment changed in the middle of an episode: no snapshot")
        size = int(np.prod(self._space.shape))
        return [np.array(log).reshape(-1, size) for log in self._logs]

    def begun(self) -> np.ndarray:
        """Which environments have been reset, bool ``(count,)``."""
        return self._seeds >= 0

    def replay(self, logs: Sequence[np.ndarray]) -> np.ndarray:
        """Play these actions after a reset; returns the last observations."""
        seen = []
        for i, log in enumerate(logs):
            self._logs[i] = [np.array(action) for action in log]
            seen.append(self._play(i))
        return np.array(seen)

    def _play(self, i: int) -> np.ndarray:
        """Bring an environment back to where its seed and actions lead."""
        self._last[i] = None
        if self._seeds[i] < 0:
            return np.zeros(self._flat.size, self._flat.dtype)
        seen = self._begin(i)
        for number, action in enumerate(self._logs[i], 1):
            self._last[i] = self._advance(i, action, number)
            seen = self._last[i].observation
        return seen

    def _renew(self, i: int) -> None:
        made = self._make(self._kwargs[i])
        dismiss(self._envs[i])
        self._envs[i] = made
        self._stale[i] = False
        if self._parameters:
            write_parameters(self._parameters, i, self._envs[i].unwrapped.model)

    def render(self, i: int) -> np.ndarray | None:
        """A picture, uint8 ``(h, w, 3)``, or None where the environment draws none."""
        env = self._envs[i]
        try:
            picture = env.render() if env.render_mode == "rgb_array" else None
            return None if picture is None else _colours(picture)
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise Unsupported(f"a picture of {self._spec.id} needs a package that is not installed: {error}") from error
        except Exception as error:
            raise fault(env, "render", "when it draws a picture", error) from error

    def close(self) -> None:
        for env in self._envs:
            dismiss(env)


def form_of(env: gymnasium.Env) -> tuple[Any, ...]:
    """What of an environment's spaces agents are made for, their bounds aside."""
    seen, action = Flattening(env.observation_space), env.action_space
    return seen.size, seen.dtype, [image.shape for image in seen.images], action.shape, getattr(action, "n", None)


def _listed(arguments: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in arguments.items())


def creator_of(spec: EnvSpec) -> Any:
    """The class or function that makes the environment."""
    return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point


def draws(creator: Any) -> bool:
    """Whether what makes an environment can be asked for pictures."""
    metadata = getattr(creator, "metadata", None)  # of a class of wrappers it is a property
    takes = inspect.signature(creator).parameters
    asked = "render_mode" in takes or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
    return asked and isinstance(metadata, Mapping) and "rgb_array" in (metadata.get("render_modes") or ())


def _colours(picture: Any) -> np.ndarray:
    """A picture as an array ``(h, w, 3)``; one in grey or with opacity passes, too. Raises a UserError for what is none."""
    picture = np.asarray(picture)
    coloured = np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture
    if coloured.ndim != 3 or coloured.shape[2] not in (3, 4) or picture.dtype != np.uint8:
        raise UserError(f"it is of shape {picture.shape} and {picture.dtype}, not (height, width, 3) and uint8")
    return coloured[:, :, :3]


def defaults_of(spec: EnvSpec) -> dict[str, Any]:
    """Arguments of the environment's constructor that have a default, with it."""
    parameters = inspect.signature(creator_of(spec)).parameters.items()
    return {name: p.default for name, p in parameters if p.default is not inspect.Parameter.empty}
