"""What a task is: vectorized numpy over the state that every engine offers. A task knows no engine.

`check_task` is the contract as a function: run it on a task of your own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from simreal_envs.engines.base import Robot
from simreal_envs.errors import UserError
from simreal_envs.parameters import Draws, Parameter
from simreal_envs.schema import Schema

# Applied around the engine, so they mean the same in every engine and exist for every task.
LATENCY = Parameter(
    "latency", "s", 0.0, 0.0, 0.2, "delay between a command and its effect, in whole physics steps", "latency"
)
NOISE = Parameter(
    "observation/noise",
    "1",
    0.0,
    0.0,
    20.0,
    "sensor noise; 1 is the typical sensor that the schema states per field",
    "noise",
)


@dataclass(frozen=True)
class State:
    """What a task sees of ``n`` worlds. Arrays have one row per world and are not to be changed.

    Attributes:
        qpos, qvel: as in `simreal_envs.engines.base`, shapes ``(n, nq)`` and ``(n, nv)``.
        action, previous_action: the last two actions in [-1, 1], shape ``(n, action_size)``.
        command: what the task asks for in this episode, shape ``(n, c)``.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    action: np.ndarray
    previous_action: np.ndarray
    command: np.ndarray

    @cached_property
    def base_velocity(self) -> np.ndarray:
        """Linear velocity of a floating base in its own frame, m/s, ``(n, 3)``."""
        return to_body(self.qpos[:, 3:7], self.qvel[:, :3])

    @cached_property
    def gravity_direction(self) -> np.ndarray:
        """The unit vector that points down, in the frame of a floating base, ``(n, 3)``; (0, 0, -1) when level."""
        w, x, y, z = self.qpos[:, 3:7].T
        return np.stack([-2 * (x * z - w * y), -2 * (y * z + w * x), -1 + 2 * (x * x + y * y)], axis=1)

    def take(self, ids: np.ndarray) -> State:
        """The rows of some worlds."""
        return State(self.qpos[ids], self.qvel[ids], self.action[ids], self.previous_action[ids], self.command[ids])


@dataclass(frozen=True)
class Episode:
    """Finished episodes, one row each: number of steps, share of steps on goal, steps on goal at the end, failure."""

    length: np.ndarray
    goal_share: np.ndarray
    goal_streak: np.ndarray
    terminated: np.ndarray


class Task(ABC):
    """Observation, action, reward, success and termination of one job for one robot.

    Attributes:
        name, says: the name users type and one sentence.
        goal: the success criterion in words.
        robot: the machine it is done with.
        substeps: physics steps per control step.
        episode_steps: control steps after which an episode is truncated.
        schema: fields of observation and action.
        random_return, reference_return: mean return of a uniformly random policy and of a converged PPO agent, nominal
            MuJoCo world, measured by ``scripts/measure_references.py``; they normalize returns.
    """

    name: ClassVar[str]
    says: ClassVar[str]
    goal: ClassVar[str]
    robot: ClassVar[Robot]
    substeps: ClassVar[int]
    episode_steps: ClassVar[int]
    schema: ClassVar[Schema]
    random_return: ClassVar[float]
    reference_return: ClassVar[float]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Everything that may vary in this task's worlds."""
        return (*self.robot.parameters, replace(LATENCY, resolution=self.robot.timestep), NOISE)

    @abstractmethod
    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Start of an episode: ``qpos (n, nq)`` and ``qvel (n, nv)``."""

    def command(self, draws: Draws, n: int) -> np.ndarray:
        """What is asked for in an episode, shape ``(n, c)``; nothing by default."""
        return np.zeros((n, 0))

    @abstractmethod
    def control(self, action: np.ndarray) -> np.ndarray:
        """Map actions in [-1, 1], shape ``(n, a)``, to the robot's control (N, N m or rad), shape ``(n, joints)``."""

    @abstractmethod
    def observe(self, state: State) -> np.ndarray:
        """Noise-free observations in the order and units of the schema, shape ``(n, d)``."""

    @abstractmethod
    def reward(self, state: State) -> dict[str, np.ndarray]:
        """Terms of the reward of the step that led to `state`, each ``(n,)``; their sum is the reward."""

    @abstractmethod
    def terminated(self, state: State) -> np.ndarray:
        """Worlds that have failed for good, bool ``(n,)``."""

    @abstractmethod
    def on_goal(self, state: State) -> np.ndarray:
        """Worlds that do at this moment what is asked for, bool ``(n,)``."""

    @abstractmethod
    def success(self, episode: Episode) -> np.ndarray:
        """Whether each finished episode met the goal, bool ``(n,)``."""


def to_body(quat: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """World vectors ``(n, 3)`` in the frame of unit quaternions ``(n, 4)``, (w, x, y, z)."""
    (w, x, y, z), (a, b, c) = quat.T, vector.T
    # vector + w t + t x axis with t = 2 vector x axis; written out because np.cross costs three times as much.
    p, q, r = 2 * (b * z - c * y), 2 * (c * x - a * z), 2 * (a * y - b * x)
    return np.stack([a + w * p + (q * z - r * y), b + w * q + (r * x - p * z), c + w * r + (p * y - q * x)], axis=1)


def check_task(task: Task) -> None:
    """Raise a UserError naming the first way in which a task breaks the contract."""
    n = 3
    draws = Draws(0, np.arange(n), np.zeros(n, dtype=int))
    model = task.robot.model("matched")
    qpos, qvel = task.initial_state(draws, n)
    _require_shape("initial_state qpos", qpos, (n, model.nq))
    _require_shape("initial_state qvel", qvel, (n, model.nv))
    action = np.zeros((n, task.schema.action_size))
    _require_shape("control", task.control(action), (n, len(task.robot.joints)))
    state = State(qpos, qvel, action, action, task.command(draws, n))
    _require_shape("observe", task.observe(state), (n, task.schema.observation_size))
    for name, term in task.reward(state).items():
        _require_shape(f"reward[{name!r}]", term, (n,))
    for name in ("terminated", "on_goal"):
        _require_shape(name, getattr(task, name)(state), (n,))
    flipped = replace(
        state, **{f: getattr(state, f)[::-1] for f in ("qpos", "qvel", "action", "previous_action", "command")}
    )
    if not np.array_equal(task.observe(flipped), task.observe(state)[::-1]):
        raise UserError(f"task {task.name!r}: observe() mixes worlds: reordering the worlds changes their observations")
    names = [p.name for p in task.parameters]
    if len(set(names)) != len(names):
        raise UserError(f"task {task.name!r}: two parameters have the same name in {names}")


def _require_shape(what: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise UserError(f"{what} has shape {np.shape(array)}, expected {shape}")
