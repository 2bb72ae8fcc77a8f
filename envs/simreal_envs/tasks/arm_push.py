"""Arm push: a Franka Panda pushes a puck over a table to a drawn place, with a rod in its hand."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from simreal_envs.kinematics import GravityTorque, Kinematics
from simreal_envs.parameters import Draws
from simreal_envs.robots.panda import HAND, JOINTS, KP, PANDA_PUSHER, PUCK_RADIUS, ROD, TIP_RADIUS, pointing_down
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task, clipped, norms, squares

GAIN = np.array(KP)  # N m/rad
CENTRE, HALF = np.array([0.50, 0.0]), np.array([0.22, 0.30])  # m: the rectangle of tip targets
TIP_HEIGHT = 0.035  # m above the table
TIP_START, PUCK_START = (  # m: rectangles (centre, half size)
    (np.array([0.34, 0.0]), np.array([0.03, 0.12])),
    (np.array([0.46, 0.0]), np.array([0.03, 0.10])),
)
WAY, TURN = (0.10, 0.20), np.radians(30)  # m and rad: how far the goal is ahead of the puck, and how far to either side
REACH = np.array([0.25, 0.30])  # m: a puck further from CENTRE along either axis is lost
TOLERANCE = 0.05  # m


class ArmPush(Task):
    name = "arm_push"
    says = "Franka Panda pushes a puck over a table to a place"
    goal = "the puck's centre within 5 cm of the goal during the whole last half second"
    robot = PANDA_PUSHER
    substeps = 10
    episode_steps = 200
    schema = Schema(
        observation=(
            Field("tip_position", "m", ("x", "y", "z"), -1.5, 1.5, noise=0.002),
            Field("tip_velocity", "m/s", ("x", "y", "z"), -5.0, 5.0, noise=0.02),
            Field("puck_offset", "m", ("x", "y"), -2.0, 2.0, noise=0.003),
            Field("puck_velocity", "m/s", ("x", "y"), -5.0, 5.0, noise=0.03),
            Field("goal_offset", "m", ("x", "y"), -2.0, 2.0, noise=0.003),
            Field("push_offset", "m", ("x", "y"), -2.0, 2.0, noise=0.003),
            Field("previous_action", "1", ("x", "y"), -1.0, 1.0),
        ),
        action=(Field("tip_target", "1", ("x", "y"), -1.0, 1.0),),
        control_period=0.02,
    )
    random_return = -163.9
    reference_return = 303.1

    @cached_property
    def _kinematics(self) -> Kinematics:
        return Kinematics(self.robot.model("matched"), sites=("tip",))

    @cached_property
    def _gravity_torque(self) -> GravityTorque:
        return GravityTorque(self.robot.model("matched"), JOINTS)

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        qpos = np.zeros((n, 10))
        qpos[:, :7] = _joints(_drawn(TIP_START, draws, "task/tip"))
        qpos[:, 7:9] = _drawn(PUCK_START, draws, "task/puck")
        return qpos, np.zeros((n, 10))

    def command(self, draws: Draws, n: int) -> np.ndarray:
        """The goal on the table, m, from the middle of the arm's foot: ahead of where the puck starts."""
        u = draws.uniform("task/goal", 2)
        way, angle = WAY[0] + (WAY[1] - WAY[0]) * u[:, 0], TURN * (2 * u[:, 1] - 1)
        return _drawn(PUCK_START, draws, "task/puck") + way[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def control(self, action: np.ndarray) -> np.ndarray:
        """The joint targets that hold the tip over a point of the table, on the nominal machine."""
        qpos = np.zeros((len(action), 10))
        qpos[:, :7] = _joints(CENTRE + HALF * action)
        return qpos[:, :7] + self._gravity_torque(qpos) / GAIN

    def observe(self, state: State) -> np.ndarray:
        (tip, velocity), puck = state.once(self._tip), state.qpos[:, 7:9]
        offsets = puck - tip[:, :2], state.qvel[:, 7:9], state.once(_ahead), _place(state) - tip[:, :2]
        return np.concatenate([tip, velocity, *offsets, state.action], axis=1)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        tip, velocity = state.once(self._tip)
        distance = state.once(_distance)
        to_puck, to_goal = state.qpos[:, 7:9] - tip[:, :2], state.once(_ahead)
        apart = norms(to_puck)
        aligned = np.add.reduce(to_puck * to_goal, axis=1) / np.maximum(apart * distance, 1e-9)
        far = np.minimum(distance / 0.05, 1.0)  # at the goal, it no longer matters where the tip is
        return {
            "distance": 1.0 - np.minimum(distance / 0.3, 1.0),
            "precision": np.exp(-((distance / 0.05) ** 2)),
            "approach": -0.5 * far * clipped((apart - PUCK_RADIUS - TIP_RADIUS) / 0.2, 0.0, 1.0),
            # Behind the puck, as seen from the goal: the way there is around the puck.
            "alignment": -0.5 * far * (1.0 - aligned),
            "height": -2.0 * np.abs(tip[:, 2] - TIP_HEIGHT),
            # A real Panda's hand does 1.7 m/s at most, and a puck that is struck slides away.
            "tip_speed": -0.5 * clipped(norms(velocity) - 1.0, 0.0, 2.0) ** 2,
            "puck_speed": -0.2 * np.minimum(squares(state.qvel[:, 7:9]), 4.0),
            "action_rate": -0.2 * squares(state.action - state.previous_action),
            "lost": -20.0 * self.terminated(state),
        }

    def markers(self, state: State) -> dict[str, np.ndarray]:
        return {"goal": np.concatenate([state.command, np.zeros((len(state.command), 1))], axis=1)}

    def terminated(self, state: State) -> np.ndarray:
        return state.once(_lost)

    def on_goal(self, state: State) -> np.ndarray:
        return state.once(_distance) < TOLERANCE

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_streak >= 25)

    def _tip(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity of the middle of the rod's ball, m and m/s, each ``(n, 3)``."""
        motion = self._kinematics.motion(state.qpos, state.qvel)
        return motion.position[:, 0], motion.linear[:, 0]


def _drawn(rectangle: tuple[np.ndarray, np.ndarray], draws: Draws, name: str) -> np.ndarray:
    """A point of a rectangle per world, m, ``(n, 2)``: the same for the same name."""
    return rectangle[0] + rectangle[1] * (2 * draws.uniform(name, 2) - 1)


def _joints(tip: np.ndarray) -> np.ndarray:
    """Joint angles, rad, ``(n, 7)``, with the tip at points of the table, m, ``(n, 2)``."""
    return pointing_down(tip[:, 0], tip[:, 1], TIP_HEIGHT + ROD + HAND)


def _distance(state: State) -> np.ndarray:
    """Of the puck's centre from the goal, m, ``(n,)``."""
    return norms(state.once(_ahead))


def _lost(state: State) -> np.ndarray:
    return (np.abs(state.qpos[:, 7:9] - CENTRE) > REACH).any(axis=1)


def _ahead(state: State) -> np.ndarray:
    """From the puck to the goal, m, ``(n, 2)``."""
    return state.command - state.qpos[:, 7:9]


def _place(state: State) -> np.ndarray:
    """Where to push from, m, ``(n, 2)``: the tip touches the puck there, on the side away from the goal."""
    away = np.maximum(state.once(_distance), 1e-6)[:, None]
    return state.qpos[:, 7:9] - (PUCK_RADIUS + TIP_RADIUS) * state.once(_ahead) / away
