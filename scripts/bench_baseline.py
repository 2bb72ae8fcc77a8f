"""One MuJoCo world the way people write it: a `gymnasium.Env` around `mj_step`, and a wrapper that randomizes it.

The physics, observations, rewards and ends of episodes are those of our tasks (a test compares them), in the form that
is fast for one world. `gymnasium.vector` and SB3 run many of these side by side.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.wrappers import TimeLimit

from simreal_envs.parameters import Draws
from simreal_envs.robots.a1 import STANCE
from simreal_envs.tasks import TASKS
from simreal_envs.tasks.cartpole_swingup import RAIL
from simreal_envs.tasks.halfcheetah import LOWEST, SPEED, STEEPEST
from simreal_envs.variation import Domain

_STANCE = np.array(STANCE)


class PlainWorld(gymnasium.Env):
    """One world of a task: a model and data of its own. Subclasses add what the task asks for."""

    task_name: str

    def __init__(self) -> None:
        self.task = TASKS[self.task_name]
        self.model = copy.copy(self.task.robot.model("matched"))
        self.data = mujoco.MjData(self.model)
        self.observation_space, self.action_space = self.task.schema.observation_space, self.task.schema.action_space
        self._low, self._high = self.observation_space.low, self.observation_space.high

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self._last_action = np.zeros(self.action_space.shape)
        draws = Draws(int(self.np_random.integers(2**31)), np.zeros(1, int), np.zeros(1, int))
        (self.data.qpos[:],), (self.data.qvel[:],) = self.task.initial_state(draws, 1)
        self._command = self.task.command(draws, 1)[0]
        return self._seen(self._last_action), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        action = np.minimum(np.maximum(action, -1.0), 1.0).astype(np.float64)
        self.data.ctrl[:] = self.task.control(action)
        mujoco.mj_step(self.model, self.data, nstep=self.task.substeps)
        observation = self._seen(action)
        reward, terminated = self._judge(action)
        self._last_action = action
        return observation, reward, terminated, False, {}

    def _seen(self, action: np.ndarray) -> np.ndarray:
        observation = self._observe(action)
        return np.minimum(np.maximum(observation, self._low), self._high).astype(np.float32)

    def _observe(self, action: np.ndarray) -> np.ndarray:
        """The observation, ``(d,)``, after this action."""
        raise NotImplementedError

    def _judge(self, action: np.ndarray) -> tuple[float, bool]:
        """Reward and termination of this step."""
        raise NotImplementedError


class PlainCartpole(PlainWorld):
    """`simreal_envs.tasks.cartpole_swingup` for one world."""

    task_name = "cartpole_swingup"

    def _observe(self, action: np.ndarray) -> np.ndarray:
        x, angle = self.data.qpos
        return np.array([x, math.cos(angle), math.sin(angle), *self.data.qvel])

    def _judge(self, action: np.ndarray) -> tuple[float, bool]:
        x, angle = self.data.qpos
        upright, out = 0.5 * (1 + math.cos(angle)), abs(x) > RAIL
        reward = upright**2 - 0.1 * min(x**2, RAIL**2) - 0.02 * action[0] ** 2 - 20.0 * out
        return float(reward - 0.002 * upright * min(self.data.qvel[1] ** 2, 100.0)), bool(out)


class PlainHalfCheetah(PlainWorld):
    """`simreal_envs.tasks.halfcheetah` for one world."""

    task_name = "halfcheetah"

    def _observe(self, action: np.ndarray) -> np.ndarray:
        qpos, qvel = self.data.qpos, self.data.qvel
        return np.concatenate((qpos[1:3], qvel[:3], qpos[3:], qvel[3:], action))

    def _judge(self, action: np.ndarray) -> tuple[float, bool]:
        fallen = self.data.qpos[1] < LOWEST or abs(self.data.qpos[2]) > STEEPEST
        change = action - self._last_action
        forward = SPEED - abs(self.data.qvel[0] - SPEED)
        return float(forward - 0.1 * (action @ action) - 0.1 * (change @ change) - 20.0 * fallen), bool(fallen)


class PlainQuadruped(PlainWorld):
    """`simreal_envs.tasks.quadruped` for one world."""

    task_name = "quadruped"

    def __init__(self) -> None:
        super().__init__()
        self._rotation = np.zeros(9)

    def _observe(self, action: np.ndarray) -> np.ndarray:
        qpos, qvel = self.data.qpos, self.data.qvel
        mujoco.mju_quat2Mat(self._rotation, qpos[3:7])
        matrix = self._rotation.reshape(3, 3)
        self._velocity, self._gravity = qvel[:3] @ matrix, -matrix[2]
        parts = (self._velocity, qvel[3:6], self._gravity, self._command, qpos[7:] - _STANCE, qvel[6:], action)
        return np.concatenate(parts)

    def _judge(self, action: np.ndarray) -> tuple[float, bool]:
        (vx, vy, vz), (gx, gy, gz) = self._velocity.tolist(), self._gravity.tolist()
        wx, wy, wz = self.data.qvel[3:6].tolist()
        fallen = self.data.qpos[2] < 0.16 or gz > -0.5
        bend, change = self.data.qpos[7:] - _STANCE, action - self._last_action
        tracking = math.exp(-((vx - self._command[0]) ** 2 + vy**2) / 0.1)
        reward = (
            1.2 * tracking
            + 0.3 * tracking * math.exp(-(wz**2) / 0.25)
            + 0.1
            - min(vz**2, 1.0)
            - 0.02 * min(wx**2 + wy**2, 10.0)
            - (gx**2 + gy**2)
            - 0.03 * (bend @ bend)
            - 0.03 * (change @ change)
            - 10.0 * fallen
        )
        return float(reward), bool(fallen)


class RandomizedPhysics(gymnasium.Wrapper):
    """Draws the varied parameters of a domain anew at every reset and writes them into the world's own model."""

    def __init__(self, env: PlainWorld, domain: Domain):
        super().__init__(env)
        self._setters = [(varied, _setter(env.model, varied.parameter)) for varied in domain.resolve()]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        world = self.unwrapped
        if seed is not None:
            world._np_random = np.random.default_rng(seed)
        for varied, write in self._setters:
            write(varied.distribution.values(world.np_random.random(), varied.parameter.nominal))
        mujoco.mj_setConst(world.model, world.data)
        return self.env.reset(options=options)


def _setter(model: mujoco.MjModel, parameter: Any) -> Callable[[float], None]:
    """What writes one parameter into a model, always from its nominal values."""
    kind = parameter.quantity
    if kind in ("mass", "friction"):
        bodies = [model.body(name).id for name in parameter.elements]
        mass, inertia = model.body_mass[bodies], model.body_inertia[bodies]
        geoms = np.flatnonzero(np.isin(model.geom_bodyid, bodies))

        def write(value: float) -> None:
            if kind == "friction":
                model.geom_friction[geoms, 0] = value
            else:
                model.body_mass[bodies] = value
                model.body_inertia[bodies] = inertia * (value / mass)[:, None]
    elif kind == "damping":
        dofs = [model.jnt_dofadr[model.joint(name).id] for name in parameter.elements]

        def write(value: float) -> None:
            model.dof_damping[dofs] = value
    elif kind in ("kp", "kd"):
        joints = [model.joint(name).id for name in parameter.elements]
        drives = np.flatnonzero(np.isin(model.actuator_trnid[:, 0], joints))

        def write(value: float) -> None:
            model.actuator_biasprm[drives, 1 if kind == "kp" else 2] = -value
            if kind == "kp":
                model.actuator_gainprm[drives, 0] = value
    elif kind == "strength":  # only of force drives, whose bias is zero

        def write(value: float) -> None:
            model.actuator_gear[:, 0] = value
    else:
        raise ValueError(f"the baseline does not randomize {parameter.name}")
    return write


PLAIN = {world.task_name: world for world in (PlainCartpole, PlainHalfCheetah, PlainQuadruped)}


def plain_world(domain: Domain) -> gymnasium.Env:
    """A randomized world of the domain's task, with the task's time limit."""
    world = PLAIN[domain.task]()
    return TimeLimit(RandomizedPhysics(world, domain), world.task.episode_steps)
