"""Any Gymnasium environment as it is: many of them in this process, or spread over worker processes."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from simreal_envs.adapters.faults import dismiss, layers
from simreal_envs.adapters.fleet import KWARGS, Envs, creator_of, defaults_of, form_of, sound
from simreal_envs.adapters.machine import Machine, machine, named_model
from simreal_envs.adapters.spaces import (
    AIMED,
    PAID_END,
    Flattening,
    aims,
    box_action,
    discrete_action,
    observation_fields,
    paid_end,
    success,
    texts,
)
from simreal_envs.engines.base import Engine, Player
from simreal_envs.entry_points import packages_of
from simreal_envs.errors import Unsupported, UserError
from simreal_envs.fleets import Fleets
from simreal_envs.imperfections.vocabulary import link_parameters
from simreal_envs.parameters import UNSUPPORTED, Draws, Parameter
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task

_LARGEST = 1e9  # bound of a constructor argument, of which we know nothing


class GymnasiumEngine(Engine):
    """See `Engine`. An environment keeps its state to itself, so ``qpos`` holds nothing but the seed of the episode.

    Parameters ``kwargs/NAME`` are arguments of the environment's constructor: it is made anew when they change.

    Attributes:
        readings: ``observation (N, d)``, ``reward (N,)``, ``met``, ``terminated`` and ``truncated`` of the last step.
    """

    name: ClassVar[str] = "gymnasium"

    def __init__(self, task: GymnasiumTask, num_worlds: int, num_workers: int = 0):
        self.robot, self.num_worlds, self._task = task.robot, num_worlds, task
        self.qpos, self.qvel = np.zeros((num_worlds, 1)), np.zeros((num_worlds, 0))
        self._sound = np.ones(num_worlds, dtype=bool)
        self._begun = self._stepped = False
        self._applied: set[str] = set()  # names of the parameters that are not simply as compiled
        self.readings = {
            "observation": np.zeros((num_worlds, task.schema.observation_size), task.dtype),
            "reward": np.zeros(num_worlds),
            "met": np.zeros(num_worlds, dtype=bool),
            "terminated": np.zeros(num_worlds, dtype=bool),
            "truncated": np.zeros(num_worlds, dtype=bool),
        }
        self._fleets = Fleets(Envs, (task.spec, task.machine), num_worlds, num_workers)

    def apply(self, ids: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        self._applied |= set(arrays)
        self._fleets.some("apply", ids, arrays)

    def read(self, parameter: str) -> np.ndarray:
        nominal = next(p.nominal for p in self._task.parameters if p.name == parameter)
        return np.concatenate(self._fleets.all("read", parameter, nominal))

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        ids = np.asarray(ids)
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        seeds = np.asarray(qpos)[:, 0].astype(np.int64)
        seen = self._fleets.some("reset", ids, seeds)
        if seen:
            self.readings["observation"][ids] = np.concatenate(seen)
        for name in ("reward", "met", "terminated", "truncated"):
            self.readings[name][ids] = 0
        self._sound[ids] = True
        if not self._begun and 0 in ids:
            self._begun = True
            if self._fleets.one("masked", 0):  # told here and once, and not by every process with worlds
                warnings.warn(
                    f"{self._task.name} tells in its infos which choices there are (action_mask): agents do not see them and "
                    "choose among all",
                    stacklevel=2,
                )

    def step(self, control: np.ndarray, substeps: int) -> None:
        """See `Engine`.

        Raises:
            UserError: an environment cannot, or none of them returned finite numbers in their first step: single worlds may
                diverge.
        """
        rows, control = self._fleets.rows, np.asarray(control)
        answers = self._fleets.call("step", [(control[mine],) for mine in rows])
        for mine, (observation, reward, met, terminated, truncated) in zip(rows, answers, strict=True):
            self._sound[mine] = fine = sound(observation).all(axis=1) & np.isfinite(reward)
            observation[~fine] = 0
            self.readings["observation"][mine] = observation
            self.readings["reward"][mine] = np.where(fine, reward, 0.0)
            self.readings["met"][mine] = met
            self.readings["terminated"][mine], self.readings["truncated"][mine] = terminated, truncated
        if not (self._stepped or self._sound.any()):
            self._fleets.one("refuse", 0)
        self._stepped = True

    def push(self, force: np.ndarray) -> None:
        raise Unsupported(f"{self._task.name} keeps its robot to itself: there is nobody to push")

    def diverged(self) -> np.ndarray:
        return ~self._sound

    def snapshot(self) -> dict[str, np.ndarray]:
        """See `Engine`: seeds, parameters and the actions of the running episodes, which `restore` plays again."""
        logs = [log for part in self._fleets.all("logs") for log in part]
        longest = max((len(log) for log in logs), default=0)
        actions = np.zeros((self.num_worlds, longest, len(self.robot.joints)))
        for row, log in zip(actions, logs, strict=True):
            row[: len(log)] = log
        values = {name: self.read(name) for name in sorted(self._applied)}
        return {
            "qpos": self.qpos.copy(), "sound": self._sound.copy(), "actions": actions,
            "begun": np.concatenate(self._fleets.all("begun")), "lengths": np.array([len(log) for log in logs]),
            **{f"value/{name}": value for name, value in values.items()},
            **{f"reading/{name}": value.copy() for name, value in self.readings.items()},
        }  # fmt: skip

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """See `Engine`.

        Raises:
            Unsupported: the environment does not come to the same observation again.
        """
        everyone = np.arange(self.num_worlds)
        self.apply(everyone, {name[6:]: value for name, value in snapshot.items() if name.startswith("value/")})
        self.reset(everyone, snapshot["qpos"][:, :1], np.zeros_like(self.qvel))  # the first: older ones had more
        logs = [a[:n] for a, n in zip(snapshot["actions"], snapshot["lengths"], strict=True)]
        seen = np.concatenate(self._fleets.call("replay", [(logs[rows],) for rows in self._fleets.rows]))
        for name, value in self.readings.items():
            value[:] = snapshot.get(f"reading/{name}", value)  # snapshots of before lack `met`
        self._sound[:], self._stepped = snapshot["sound"], self._stepped or bool(snapshot["lengths"].any())
        same = (seen == self.readings["observation"]).all(axis=1) | ~self._sound | ~snapshot["begun"]
        if not same.all():
            raise Unsupported(
                f"{self._task.name} does not repeat itself from a seed and the same actions, so it cannot be continued: "
                f"world {int(np.argmin(same))} came to another observation"
            )

    def render(self, world: int, width: int, height: int) -> np.ndarray:
        picture = self._fleets.one("render", world)
        if picture is None:
            raise Unsupported(f"{self._task.name} draws no pictures: it has no render mode 'rgb_array'")
        rows, columns = (np.arange(n) * have // n for n, have in zip((height, width), picture.shape, strict=False))
        return np.ascontiguousarray(picture[rows][:, columns])

    def close(self) -> None:
        self._fleets.close()


class GymnasiumTask(Task):
    """An environment whose inside is unknown, made by the `spec` of its id: it observes, rewards and terminates itself.

    Attributes:
        spec: how it is made.
        machine: its MuJoCo model, if it has one.
        dtype: of the numbers that the environment's observations are read as.
        aims: whether there is a goal of which the environment says whether it is met.
        pays: whether success is read off what the end of an episode pays: neither goal, threshold nor robot is known.
    """

    engines, presets = ("gymnasium",), ("matched",)
    substeps = 1

    def __init__(self, name: str, env: gymnasium.Env, spec: EnvSpec):
        self.spec = spec
        self.packages = tuple(package for package in packages_of(*layers(env)) if package != "gymnasium")
        made: Any = env.spec  # with what its entry point put around it, which would be put there twice if made by this
        self.name, self.says = f"gymnasium:{name}", f"Gymnasium's {name}"
        if text := texts(env.observation_space):
            self.says += f", without its text ({', '.join(text)})"
        limit = made.max_episode_steps or getattr(env.unwrapped, "max_steps", None)  # which MiniGrid keeps itself
        if not _positive(limit):
            raise UserError(f"gymnasium:{name} has no time limit; register it with max_episode_steps")
        self.episode_steps, self.threshold = int(limit), made.reward_threshold
        action, self.center, self.half = _action(name, env)
        period = _period(env)
        self.schema = Schema(observation_fields(name, env.observation_space), (action,), period)
        self.dtype = Flattening(env.observation_space).dtype
        self.robot = Player(name, tuple(f"action_{i}" for i in range(self.schema.action_size)), period)
        self.machine = _machine(name, env)
        self.aims = aims(env.observation_space)
        self.pays = not self.aims and self.threshold is None and self.machine is None
        self.goal = AIMED if self.aims else PAID_END if self.pays else success(self.threshold)[0]
        self._own = (*(self.machine.parameters if self.machine else ()), *_constructor(env, spec))
        self.random_return = self.reference_return = float("nan")  # measured where they are needed

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What the environment takes, and the imperfections of observation and action around it."""
        return (*self._own, *link_parameters(self.schema.control_period, self.schema))

    def make_engine(
        self, name: str, preset: str, num_worlds: int, num_threads: int, num_workers: int
    ) -> GymnasiumEngine:
        return GymnasiumEngine(self, num_worlds, num_workers)

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The seed of every episode; the environment makes the rest of it."""
        return np.floor(draws.uniform("task/initial_state") * 2**31), np.zeros((n, 0))

    def control(self, action: np.ndarray) -> np.ndarray:
        return self.center + self.half * action

    def observe(self, state: State) -> np.ndarray:
        return state.readings["observation"]

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return {"reward": state.readings["reward"]}

    def terminated(self, state: State) -> np.ndarray:
        return state.readings["terminated"]

    def truncated(self, state: State) -> np.ndarray:
        return state.readings["truncated"]

    def on_goal(self, state: State) -> np.ndarray:
        return state.readings["met"] if self.aims or self.pays else ~self.terminated(state)

    def success(self, episode: Episode) -> np.ndarray:
        if self.aims:
            return episode.goal_streak > 0
        return paid_end(episode) if self.pays else success(self.threshold)[1](episode)


def _action(name: str, env: gymnasium.Env) -> tuple[Field, np.ndarray, np.ndarray]:
    """The action's field; what the environment is given is the second plus the third times it. A choice is its own index."""
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        meanings: Sequence[str] = ()
        with contextlib.suppress(AttributeError, NotImplementedError):  # as a base class may say
            meanings = env.unwrapped.get_action_meanings()
        return discrete_action(space, meanings), np.zeros(1), np.ones(1)
    if isinstance(space, spaces.Box):
        action, low, high = box_action(name, space)
        return action, (low + high) / 2, (high - low) / 2
    raise UserError(
        f"gymnasium:{name} takes {space} actions; our agents act in bounded Box spaces and in Discrete ones"
    )


def _period(env: gymnasium.Env) -> float:
    """Seconds per step: as the environment says (``dt``, ``tau``), else of a frame that it would show, else 1 s."""
    for name in ("dt", "tau"):
        if _positive(value := getattr(env.unwrapped, name, None)):
            return float(value)
    fps = (env.metadata or {}).get("render_fps")
    return 1.0 / fps if _positive(fps) else 1.0


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and 0 < value < math.inf


def _machine(name: str, env: gymnasium.Env) -> Machine | None:
    model = getattr(env.unwrapped, "model", None)
    if not isinstance(model, mujoco.MjModel):
        return None
    return machine(name, named_model(env.unwrapped), actuated=False)


_FORM = "it changes what is observed or done, and worlds and agents need one form; register an id of its own for it"


def _constructor(env: gymnasium.Env, spec: EnvSpec) -> list[Parameter]:
    """Numbers that the environment's constructor takes, with their values by this id."""
    found = []
    for name, value in {**defaults_of(spec), **spec.kwargs}.items():
        if not isinstance(value, (bool, int, float, np.number)) or not abs(value) <= _LARGEST:
            continue
        choices = (0.0, 1.0) if isinstance(value, bool) else ()
        low, high = choices or (-_LARGEST, _LARGEST)
        says = f"the constructor's argument {name}"
        lost = bool(choices) and _changes_form(env, spec, name, not value)
        support, why = ({"gymnasium": UNSUPPORTED}, _FORM) if lost else ({}, "")
        found.append(
            Parameter(
                f"{KWARGS}{name}", "1", float(value), low, high, says, "constructor", (), support, choices, why=why
            )
        )
    return found


def _changes_form(env: gymnasium.Env, spec: EnvSpec, name: str, value: bool) -> bool:
    """Whether a switch of the constructor changes what agents are made for; it is tried, in Gymnasium's own environments.

    Other packages' switches may do anything, such as open a window. What they change is seen where they are used.
    """
    if not creator_of(spec).__module__.startswith("gymnasium."):
        return False
    try:
        other = gymnasium.make(spec, disable_env_checker=True, **{name: value})
    except Exception:  # whatever a constructor raises: it is told where it is used
        return False
    dismiss(other)
    return form_of(other) != form_of(env)
