"""What a task is: vectorized numpy over the state that every engine offers. A task knows no engine.

`simreal_envs.tasks.contract` has the contract as a function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from simreal_envs.engines.base import PRESETS, Engine, Player, Robot
from simreal_envs.engines.registry import start_engine
from simreal_envs.imperfections import parameters_of
from simreal_envs.parameters import Draws, Parameter
from simreal_envs.schema import Schema


@dataclass(eq=False)  # not frozen: a new one at every step, and that would take three times as long
class State:
    """What a task sees of ``n`` worlds. Arrays have one row per world and are not to be changed.

    Attributes:
        qpos, qvel: as in `simreal_envs.engines.base`, shapes ``(n, nq)`` and ``(n, nv)``.
        action, previous_action: the last two actions in [-1, 1], shape ``(n, action_size)``.
        command: what the task asks for in this episode, shape ``(n, c)``.
        readings: what an engine of the task's own measures besides, by name, each ``(n, ...)``; on slopes ``down``, the
            unit vector of gravity in the world frame; empty otherwise.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    action: np.ndarray
    previous_action: np.ndarray
    command: np.ndarray
    readings: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def base_velocity(self) -> np.ndarray:
        """Linear velocity of a floating base in its own frame, m/s, ``(n, 3)``."""
        return to_body(self.qpos[:, 3:7], self.qvel[:, :3])

    @cached_property
    def gravity_direction(self) -> np.ndarray:
        """The direction of gravity as a floating base's inertial sensor has it, unit vectors ``(n, 3)``; (0, 0, -1) when level."""
        if "down" in self.readings:
            return to_body(self.qpos[:, 3:7], self.readings["down"])
        return self.floor_direction

    @cached_property
    def floor_direction(self) -> np.ndarray:
        """The unit vector into the floor, in the frame of a floating base, ``(n, 3)``: gravity's, except on a slope."""
        w, x, y, z = self.qpos.T[3:7]
        out = np.empty((3, len(self.qpos)))
        out[0], out[1], out[2] = -2 * (x * z - w * y), -2 * (y * z + w * x), -1 + 2 * (x * x + y * y)
        return out.T

    def once(self, compute: Callable[[State], Any]) -> Any:
        """``compute(state)``, at the first call only: for what observation, reward and goal of a task share."""
        known = self.__dict__.setdefault("_known", {})
        if compute not in known:
            known[compute] = compute(self)
        return known[compute]

    def measured(self, qpos: np.ndarray) -> State:
        """The same with other coordinates of joints, as encoders tell them: what is known of a floating base stays known."""
        state = State(qpos, self.qvel, self.action, self.previous_action, self.command, self.readings)
        vars(state).update({name: vars(self)[name] for name in _OF_THE_BASE if name in vars(self)})
        return state

    def take(self, ids: np.ndarray | slice) -> State:
        """The rows of some worlds."""
        return State(
            self.qpos[ids], self.qvel[ids], self.action[ids], self.previous_action[ids], self.command[ids],
            Rows(self.readings, ids),
        )  # fmt: skip


_OF_THE_BASE = ("base_velocity", "gravity_direction", "floor_direction")


class Rows(Mapping[str, np.ndarray]):
    """The rows of some worlds of arrays by name, each taken when it is asked for."""

    def __init__(self, arrays: Mapping[str, np.ndarray], ids: np.ndarray | slice):
        self._arrays, self._ids = arrays, ids

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name][self._ids]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


@dataclass(frozen=True)
class Episode:
    """Finished episodes, one row each: steps, share of steps on goal, steps on goal at the end, failure, return."""

    length: np.ndarray
    goal_share: np.ndarray
    goal_streak: np.ndarray
    terminated: np.ndarray
    returns: np.ndarray | None = None


class Task(ABC):
    """Observation, action, reward, success and termination of one job for one robot.

    Attributes:
        name, says: the name users type and one sentence.
        goal: the success criterion in words.
        robot: the machine it is done with; a task that brings an engine of its own may have a mere `Player`.
        substeps: physics steps per control step.
        episode_steps: control steps after which an episode is truncated.
        schema: fields of observation and action.
        engines: names of the engines that it runs on, the default first; empty: on every engine, ``mujoco`` by default.
        presets: named settings of its worlds, the default first.
        packages: as pip calls them, those that its results depend on besides Gymnasium, MuJoCo and PyBullet and the one that brings it.
        random_return, reference_return: mean return of a uniformly random policy and of a converged PPO agent, nominal
            MuJoCo world, measured by ``scripts/measure_tasks.py``; they normalize returns.
    """

    name: str
    says: str
    goal: str
    robot: Robot | Player
    substeps: int
    episode_steps: int
    schema: Schema
    engines: tuple[str, ...] = ()
    presets: tuple[str, ...] = PRESETS
    packages: tuple[str, ...] = ()
    random_return: float
    reference_return: float

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Everything that may vary in this task's worlds."""
        return (*self.robot.parameters, *parameters_of(self.robot, self.schema))

    def make_engine(self, name: str, preset: str, num_worlds: int, num_threads: int, num_workers: int) -> Engine:
        """Start an engine for this task's robot. To override where a task brings an engine of its own."""
        return start_engine(name, self.robot, preset, num_worlds, num_threads, num_workers)

    @abstractmethod
    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Start of an episode: ``qpos (n, nq)`` and ``qvel (n, nv)``."""

    def command(self, draws: Draws, n: int) -> np.ndarray:
        """What is asked for in an episode, shape ``(n, c)``; nothing by default."""
        return np.zeros((n, 0))

    @abstractmethod
    def control(self, action: np.ndarray) -> np.ndarray:
        """Map actions in [-1, 1], shape ``(n, a)``, to the robot's control (N, N m or rad), shape ``(n, joints)``.

        A discrete action is the index of its choice, ``(n, 1)``; until the first one arrives choice 0 is in force.
        """

    @abstractmethod
    def observe(self, state: State) -> np.ndarray:
        """Noise-free observations in the order and units of the schema, shape ``(n, d)``."""

    @abstractmethod
    def reward(self, state: State) -> dict[str, np.ndarray]:
        """Terms of the reward of the step that led to `state`, each ``(n,)``; their sum is the reward."""

    def markers(self, state: State) -> dict[str, np.ndarray]:
        """Points that a picture should show, such as a goal, each ``(n, 3)`` m in the world frame; none by default."""
        return {}

    @abstractmethod
    def terminated(self, state: State) -> np.ndarray:
        """Worlds that have failed for good, bool ``(n,)``."""

    def truncated(self, state: State) -> np.ndarray | None:
        """Worlds that are cut off before `episode_steps`, bool ``(n,)``; None: none ever is."""
        return None

    @abstractmethod
    def on_goal(self, state: State) -> np.ndarray:
        """Worlds that do at this moment what is asked for, bool ``(n,)``."""

    @abstractmethod
    def success(self, episode: Episode) -> np.ndarray:
        """Whether each finished episode met the goal, bool ``(n,)``."""


def to_body(quat: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """World vectors ``(n, 3)`` in the frame of unit quaternions ``(n, 4)``, (w, x, y, z)."""
    # vector + w t + axis x t with t = 2 axis x vector; written out because np.cross costs three times as much.
    # The components lie in rows in the order x, y, z, x, y, so that a cyclic shift of them is a slice.
    axis, turned, t = np.empty((3, 5, len(quat)))
    axis[:3], turned[:3] = quat.T[1:], vector.T
    axis[3:], turned[3:] = axis[:2], turned[:2]
    first, second = axis[1:4], axis[2:5]
    np.multiply(turned[1:4] * second - turned[2:5] * first, _TWO, out=t[:3])
    t[3:] = t[:2]
    result = turned[:3] + quat.T[0] * t[:3]
    result += t[1:4] * second - t[2:5] * first
    return result.T


_TWO = np.array(2.0)  # as an array: numpy takes half of the time with it


def squares(vectors: np.ndarray) -> np.ndarray:
    """Sums of the squares of the rows of ``(n, k)``, shape ``(n,)``."""
    return np.add.reduce(vectors * vectors, axis=1)


def norms(vectors: np.ndarray) -> np.ndarray:
    """Lengths of the rows of ``(n, k)``, shape ``(n,)``: `np.linalg.norm` takes twice as long for a few rows."""
    return np.sqrt(squares(vectors))


def clipped(values: np.ndarray, low: float, high: float | np.ndarray) -> np.ndarray:
    """Values brought into [low, high]: `np.clip` takes twice as long for a few rows."""
    return np.minimum(np.maximum(values, low), high)
