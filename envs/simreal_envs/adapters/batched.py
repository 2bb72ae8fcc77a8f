"""Gymnasium's MuJoCo environments, version 5, written once more over all worlds at once and run on our MuJoCo engine.

Model, frame skip, weights, ranges and reset noise are those of the environment that its id makes. The same state and
actions give the same observations, rewards and terminations as Gymnasium's own environment
(``tests/envs/test_gymnasium_v5.py``). Different are only the draws of initial states, which are keyed like every other
draw here, and the action, which is in [-1, 1] and scaled to the bounds of the actuators.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np

from simreal_envs.adapters.machine import machine, named_model
from simreal_envs.adapters.spaces import action_field, box_action, success
from simreal_envs.engines.mujoco import MujocoEngine
from simreal_envs.parameters import Draws
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task

# A typical sensor of each kind, as in our own tasks. Contact forces have none.
_NOISE = {"m": 0.01, "rad": 0.01, "1": 0.01, "m/s": 0.1, "rad/s": 0.2}


class BatchedEngine(MujocoEngine):
    """Worlds that also tell what Gymnasium's environments read from the simulator after a control step.

    Attributes:
        readings: ``fields`` of MjData as Gymnasium sees them (those that derive from the state are one substep behind
            it) and, as ``NAME_before``, their values and those of ``qpos`` when the control step began.
    """

    def __init__(self, task: BatchedTask, preset: str, num_worlds: int, num_threads: int):
        self.persistent = "cfrc_ext" in task.fields
        super().__init__(task.robot, preset, num_worlds, num_threads)
        self._substeps, self._left, self._fields = task.substeps, 0, task.fields
        self._live = {name: self._batch.bind(name) for name in task.fields if name != "cfrc_ext"}
        self._everyone, self._data = np.arange(num_worlds), mujoco.MjData(self.model)
        self._contacts, self._applied_forces = self._batch.bind("ncon"), self._batch.bind("xfrc_applied")
        now = {"qpos": self.qpos.copy(), **{name: live.copy() for name, live in self._live.items()}}
        if self.persistent:
            now["cfrc_ext"] = np.zeros((num_worlds, self.model.nbody, 6))
        self.readings = now | {f"{name}_before": values.copy() for name, values in now.items()}

    def reset(self, ids: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        super().reset(ids, qpos, qvel)
        self._batch.forward(ids)
        self._look(np.asarray(ids))
        self._remember(ids)

    def step(self, control: np.ndarray, substeps: int) -> None:
        if self._left <= 0:
            self._remember(slice(None))
            self._left = self._substeps
        super().step(control, substeps)
        self._left -= substeps
        if self._left <= 0:
            self._look(self._everyone)

    def play(self, control: np.ndarray) -> None:
        self._remember(slice(None))
        super().play(control)
        self._look(self._everyone)

    def _remember(self, ids: np.ndarray | slice) -> None:
        for name in ("qpos", *self._fields):
            self.readings[f"{name}_before"][ids] = self.readings[name][ids]

    def _look(self, ids: np.ndarray) -> None:
        self.readings["qpos"][ids] = self.qpos[ids]
        for name, live in self._live.items():
            self.readings[name][ids] = live[ids]
        if "cfrc_ext" in self._fields:
            self._look_at_forces(ids)

    def _look_at_forces(self, ids: np.ndarray) -> None:
        """External forces on the bodies, of all contacts of the last substep. No sensor gives them under RK4, where sensors
        see the first stage of a step and Gymnasium the last, so they are computed as Gymnasium does it."""
        forces = self.readings["cfrc_ext"]
        forces[ids] = 0.0
        pushed = self._applied_forces[ids].any(axis=(1, 2))
        for world in ids[(self._contacts[ids] > 0) | pushed].tolist():
            self._batch.get_data(world, self._data)
            mujoco.mj_rnePostConstraint(self.model, self._data)
            forces[world] = self._data.cfrc_ext

    def snapshot(self) -> dict[str, np.ndarray]:
        return super().snapshot() | {f"reading/{name}": values.copy() for name, values in self.readings.items()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        super().restore({name: values for name, values in snapshot.items() if not name.startswith("reading/")})
        for name, values in self.readings.items():
            values[:] = snapshot[f"reading/{name}"]
        self._left = 0


class BatchedTask(Task):
    """One of Gymnasium's environments: everything below is read from the environment that its id makes.

    Attributes:
        fields: what of MjData it reads beside positions and velocities.
        hidden: number of leading positions that the observation leaves out.
    """

    engines, presets = ("mujoco",), ("matched",)
    fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str, env: gymnasium.Env):
        own: Any = env.unwrapped
        model = named_model(own)
        self.name, self.env = f"gymnasium:{name}", own
        self.says = f"Gymnasium's {name}, batched on our MuJoCo engine"
        self.robot = machine(name, model)
        self.substeps, self.period = int(own.frame_skip), float(own.dt)
        self.episode_steps = env.spec.max_episode_steps
        self.threshold = env.spec.reward_threshold
        self.goal, _ = success(self.threshold)
        self.hidden = int(getattr(own, "observation_structure", {}).get("skipped_qpos", 0))
        box_action(name, own.action_space)  # refuses what has no bounds
        low, high = model.actuator_ctrlrange.T.astype(np.float64)
        self.center, self.half = (low + high) / 2, (high - low) / 2
        labels = [model.joint(int(j)).name for j in model.actuator_trnid[:, 0]]
        self.schema = Schema(self._observed(model), (action_field("control", labels, low, high),), self.period)
        self.random_return = self.reference_return = float("nan")  # measured where they are needed

    def make_engine(self, name: str, preset: str, num_worlds: int, num_threads: int, num_workers: int) -> BatchedEngine:
        return BatchedEngine(self, preset, num_worlds, num_threads)

    def setting(self, name: str) -> Any:
        """A value that the environment's constructor was given."""
        return getattr(self.env, f"_{name}")

    def noise(self, draws: Draws, normal_velocity: bool) -> tuple[np.ndarray, np.ndarray]:
        """The environment's initial position and velocity with its reset noise around them."""
        model, scale = self.robot.model("matched"), self.setting("reset_noise_scale")
        qpos = self.env.init_qpos + scale * (2 * draws.uniform("task/initial_position", model.nq) - 1)
        if normal_velocity:
            return qpos, self.env.init_qvel + scale * draws.normal("task/initial_velocity", model.nv)
        return qpos, self.env.init_qvel + scale * (2 * draws.uniform("task/initial_velocity", model.nv) - 1)

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        return self.noise(draws, normal_velocity=True)

    def control(self, action: np.ndarray) -> np.ndarray:
        return self.center + self.half * action

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos[:, self.hidden :], state.qvel], axis=1)

    def forward(self, state: State) -> np.ndarray:
        """Reward for moving along x, ``(n,)``."""
        moved = state.qpos[:, 0] - state.readings["qpos_before"][:, 0]
        return self.setting("forward_reward_weight") * moved / self.period

    def effort(self, state: State, weight: float) -> np.ndarray:
        """Minus the cost of the controls, ``(n,)``."""
        return -weight * (self.control(state.action) ** 2).sum(axis=1)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return {"forward": self.forward(state), "ctrl": self.effort(state, self.setting("ctrl_cost_weight"))}

    def terminated(self, state: State) -> np.ndarray:
        return np.zeros(len(state.qpos), dtype=bool)

    def on_goal(self, state: State) -> np.ndarray:
        return ~self.terminated(state)

    def success(self, episode: Episode) -> np.ndarray:
        return success(self.threshold)[1](episode)

    def _observed(self, model: mujoco.MjModel) -> tuple[Field, ...]:
        return _fields([*_positions(model)[self.hidden :], *_velocities(model)])


class HalfCheetah(BatchedTask):
    """What all of them have in common, and nothing else: it never ends by itself."""


class Swimmer(BatchedTask):
    """Starts with uniform velocities."""

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        return self.noise(draws, normal_velocity=False)


class Walker2d(BatchedTask):
    """Ends when it is unhealthy: too low, too high or tilted. Velocities are seen up to 10."""

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        return self.noise(draws, normal_velocity=False)

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos[:, self.hidden :], np.clip(state.qvel, -10, 10)], axis=1)

    def healthy(self, state: State) -> np.ndarray:
        low_z, high_z = self.setting("healthy_z_range")
        low_angle, high_angle = self.setting("healthy_angle_range")
        z, angle = state.qpos[:, 1], state.qpos[:, 2]
        return (low_z < z) & (z < high_z) & (low_angle < angle) & (angle < high_angle)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return super().reward(state) | {"survive": self.setting("healthy_reward") * self.healthy(state)}

    def terminated(self, state: State) -> np.ndarray:
        return ~self.healthy(state) & self.setting("terminate_when_unhealthy")


class Hopper(Walker2d):
    """As the walker; every element of the state has bounds, too."""

    def healthy(self, state: State) -> np.ndarray:
        low, high = self.setting("healthy_state_range")
        rest = np.concatenate([state.qpos[:, 2:], state.qvel], axis=1)
        return super().healthy(state) & ((low < rest) & (rest < high)).all(axis=1)


class Ant(BatchedTask):
    """Sees the external forces on its bodies and pays for them; its progress is that of a body, one substep behind the state."""

    fields = ("xpos", "cfrc_ext")

    def __init__(self, name: str, env: gymnasium.Env):
        self.with_forces = bool(env.unwrapped._include_cfrc_ext_in_observation)
        self.main_body = env.unwrapped.model.body(env.unwrapped._main_body).id
        super().__init__(name, env)

    def forces(self, state: State) -> np.ndarray:
        """External forces on every body, clipped, ``(n, bodies, 6)``."""
        return np.clip(state.readings["cfrc_ext"], *self.setting("contact_force_range"))

    def observe(self, state: State) -> np.ndarray:
        seen = super().observe(state)
        if not self.with_forces:
            return seen
        return np.concatenate([seen, self.forces(state)[:, 1:].reshape(len(seen), -1)], axis=1)

    def healthy(self, state: State) -> np.ndarray:
        low, high = self.setting("healthy_z_range")
        finite = np.isfinite(state.qpos).all(axis=1) & np.isfinite(state.qvel).all(axis=1)
        return finite & (low <= state.qpos[:, 2]) & (state.qpos[:, 2] <= high)

    def forward(self, state: State) -> np.ndarray:
        now, before = (state.readings[name][:, self.main_body, 0] for name in ("xpos", "xpos_before"))
        return self.setting("forward_reward_weight") * (now - before) / self.period

    def reward(self, state: State) -> dict[str, np.ndarray]:
        contact = self.setting("contact_cost_weight") * (self.forces(state) ** 2).sum(axis=(1, 2))
        survive = self.setting("healthy_reward") * self.healthy(state)
        return super().reward(state) | {"contact": -contact, "survive": survive}

    def terminated(self, state: State) -> np.ndarray:
        return ~self.healthy(state) & self.setting("terminate_when_unhealthy")

    def _observed(self, model: mujoco.MjModel) -> tuple[Field, ...]:
        parts = [*_positions(model)[self.hidden :], *_velocities(model)]
        if self.with_forces:
            bodies = [model.body(b).name or str(b) for b in range(1, model.nbody)]
            parts += [("contact_wrench", f"{body} {k}", "N") for body in bodies for k in _WRENCH]
        return _fields(parts)


class InvertedPendulum(BatchedTask):
    """Pays for every step in which the pole is within 0.2 rad of upright."""

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        return self.noise(draws, normal_velocity=False)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return {"survive": 1.0 * ~self.terminated(state)}

    def terminated(self, state: State) -> np.ndarray:
        return np.abs(state.qpos[:, 1]) > 0.2


class InvertedDoublePendulum(BatchedTask):
    """Pays for the tip being high and calm; sees the force of the rail's end stops."""

    fields = ("site_xpos", "qfrc_constraint")

    def observe(self, state: State) -> np.ndarray:
        q, v, push = state.qpos, np.clip(state.qvel, -10, 10), np.clip(state.readings["qfrc_constraint"], -10, 10)
        return np.concatenate([q[:, :1], np.sin(q[:, 1:]), np.cos(q[:, 1:]), v, push[:, :1]], axis=1)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        x, y = state.readings["site_xpos"][:, 0, 0], state.readings["site_xpos"][:, 0, 2]
        return {
            "survive": self.setting("healthy_reward") * ~self.terminated(state),
            "distance": -(0.01 * x**2 + (y - 2) ** 2),
            "velocity": -(1e-3 * state.qvel[:, 1] ** 2 + 5e-3 * state.qvel[:, 2] ** 2),
        }

    def terminated(self, state: State) -> np.ndarray:
        return state.readings["site_xpos"][:, 0, 2] <= 1

    def _observed(self, model: mujoco.MjModel) -> tuple[Field, ...]:
        joints = [model.joint(j).name for j in range(model.njnt)]
        parts = [("position", joints[0], "m")]
        parts += [("direction", f"{part} {joint}", "1") for part in ("sin", "cos") for joint in joints[1:]]
        return _fields([*parts, *_velocities(model), ("constraint_force", joints[0], "N")])


class Reacher(BatchedTask):
    """Starts with a target drawn in a disc, and never ends by itself."""

    fields = ("xpos",)

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        model = self.robot.model("matched")
        qpos = self.env.init_qpos + 0.1 * (2 * draws.uniform("task/initial_position", model.nq) - 1)
        qvel = self.env.init_qvel + 0.005 * (2 * draws.uniform("task/initial_velocity", model.nv) - 1)
        radius, turn = draws.uniform("task/goal", 2).T  # uniform over the disc of 0.2 m
        qpos[:, -2] = 0.2 * np.sqrt(radius) * np.cos(2 * np.pi * turn)
        qpos[:, -1] = 0.2 * np.sqrt(radius) * np.sin(2 * np.pi * turn)
        qvel[:, -2:] = 0.0
        return qpos, qvel

    def miss(self, state: State) -> np.ndarray:
        """From the target to the fingertip, m, ``(n, 3)``."""
        model = self.robot.model("matched")
        return (
            state.readings["xpos"][:, model.body("fingertip").id] - state.readings["xpos"][:, model.body("target").id]
        )

    def observe(self, state: State) -> np.ndarray:
        angle = state.qpos[:, :2]
        return np.concatenate(
            [np.cos(angle), np.sin(angle), state.qpos[:, 2:], state.qvel[:, :2], self.miss(state)[:, :2]], axis=1
        )

    def reward(self, state: State) -> dict[str, np.ndarray]:
        distance = np.linalg.norm(self.miss(state), axis=1)
        return {
            "distance": -self.setting("reward_dist_weight") * distance,
            "ctrl": self.effort(state, self.setting("reward_control_weight")),
        }

    def _observed(self, model: mujoco.MjModel) -> tuple[Field, ...]:
        joints = [model.joint(j).name for j in range(2)]
        parts = [("direction", f"{part} {joint}", "1") for part in ("cos", "sin") for joint in joints]
        parts += [("target_position", axis, "m") for axis in "xy"]
        parts += [("angular_velocity", joint, "rad/s") for joint in joints]
        return _fields([*parts, *(("target_to_fingertip", axis, "m") for axis in "xy")])


# By the name of the environment's class: a subclass of it may compute anything, so it is not batched.
BATCHED: dict[str, type[BatchedTask]] = {
    "HalfCheetahEnv": HalfCheetah,
    "HopperEnv": Hopper,
    "Walker2dEnv": Walker2d,
    "AntEnv": Ant,
    "SwimmerEnv": Swimmer,
    "InvertedPendulumEnv": InvertedPendulum,
    "InvertedDoublePendulumEnv": InvertedDoublePendulum,
    "ReacherEnv": Reacher,
}


# What every id has around it, from the outside inwards. Anything else may change what is seen, done or paid, and when it ends.
_USUAL = [gymnasium.wrappers.TimeLimit, gymnasium.wrappers.OrderEnforcing]


def is_batched(env: gymnasium.Env) -> bool:
    """Whether this is one of the environments above in Gymnasium's version 5, with no wrappers but the usual ones."""
    kind, wrappers = type(env.unwrapped), []
    while isinstance(env, gymnasium.Wrapper):
        wrappers.append(type(env))
        env = env.env
    return (
        kind.__name__ in BATCHED
        and kind.__module__.startswith("gymnasium.envs.mujoco.")
        and kind.__module__.endswith("_v5")
        and wrappers == _USUAL
    )


def batched_task(name: str, env: gymnasium.Env) -> BatchedTask:
    """The task of an environment that `is_batched`, made by its id."""
    return BATCHED[type(env.unwrapped).__name__](name, env)


# -- fields ------------------------------------------------------------------------------------------------------------

_WRENCH = ("torque x", "torque y", "torque z", "force x", "force y", "force z")
Part = tuple[str, str, str]  # name of the field, label of the element, unit


def _positions(model: mujoco.MjModel) -> list[Part]:
    return _elements(
        model, [("position", "m", "xyz"), ("orientation", "1", "wxyz")], ("position", "m"), ("angle", "rad")
    )


def _velocities(model: mujoco.MjModel) -> list[Part]:
    free = [("velocity", "m/s", "xyz"), ("angular_velocity", "rad/s", "xyz")]
    return _elements(model, free, ("velocity", "m/s"), ("angular_velocity", "rad/s"))


def _elements(
    model: mujoco.MjModel, free: list[tuple[str, str, str]], slide: tuple[str, str], hinge: tuple[str, str]
) -> list[Part]:
    """The coordinates of every joint, whose names and units (of a free joint, axes, too) its kind decides."""
    parts: list[Part] = []
    for j in range(model.njnt):
        joint, kind = model.joint(j).name, model.jnt_type[j]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            parts += [(name, f"{joint} {axis}", unit) for name, unit, axes in free for axis in axes]
        else:
            name, unit = slide if kind == mujoco.mjtJoint.mjJNT_SLIDE else hinge
            parts.append((name, joint, unit))
    return parts


def _fields(parts: list[Part]) -> tuple[Field, ...]:
    """One field per run of elements with the same name; a name that comes again gets a number."""
    seen: Counter[str] = Counter()
    fields = []
    for name, run in itertools.groupby(parts, key=lambda part: part[0]):
        _, labels, (unit, *_) = zip(*run, strict=True)
        seen[name] += 1
        numbered = name if seen[name] == 1 else f"{name}_{seen[name]}"
        fields.append(Field(numbered, unit, labels, noise=_NOISE.get(unit, 0.0)))
    return tuple(fields)
