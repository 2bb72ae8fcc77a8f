"""Reacher: bring the tip of a planar two-link arm to a drawn point, against gravity, and hold it there."""

from __future__ import annotations

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.robots.reacher import PLANE, REACHER, SHOULDER_HEIGHT, TORQUE_LIMIT, tip
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task, norms, squares

GOAL_RADIUS = (0.2, 0.45)  # m from the shoulder; the arm reaches from 0.1 to 0.5 m
TOLERANCE = 0.025  # m
DIRECTIONS = ("cos shoulder", "cos elbow", "sin shoulder", "sin elbow")


class Reacher(Task):
    name = "reacher"
    says = "bring the tip of a planar two-link arm to a point and hold it there"
    goal = "the tip within 2.5 cm of the goal during the whole last half second"
    robot = REACHER
    substeps = 5
    episode_steps = 150
    schema = Schema(
        observation=(
            Field("joint_direction", "1", DIRECTIONS, -1.5, 1.5, noise=0.005),
            Field("joint_velocity", "rad/s", ("shoulder", "elbow"), -60.0, 60.0, noise=0.1),
            Field("tip_position", "m", ("x", "z"), -1.0, 1.0, noise=0.002),
            Field("goal_offset", "m", ("x", "z"), -2.0, 2.0, noise=0.002),
        ),
        action=(Field("torque", "1", ("shoulder", "elbow"), -1.0, 1.0),),
        control_period=0.02,
    )
    random_return = -105.2
    reference_return = 100.2

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        u = 2 * draws.uniform("task/initial_state", 4) - 1
        return u[:, :2] * [1.0, 1.5], u[:, 2:]

    def command(self, draws: Draws, n: int) -> np.ndarray:
        """The goal (x, z) from the shoulder in m, uniform over the area of a ring."""
        u = draws.uniform("task/goal", 2)
        low, high = np.square(GOAL_RADIUS)
        radius, angle = np.sqrt(low + (high - low) * u[:, :1]), 2 * np.pi * u[:, 1:]
        return radius * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)

    def control(self, action: np.ndarray) -> np.ndarray:
        return TORQUE_LIMIT * action

    def observe(self, state: State) -> np.ndarray:
        position, offset = state.once(_tip)
        return np.concatenate([np.cos(state.qpos), np.sin(state.qpos), state.qvel, position, offset], axis=1)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        distance = state.once(_distance)
        return {
            "distance": -distance,
            "precision": np.exp(-((distance / 0.05) ** 2)),
            "speed": -0.002 * np.minimum(squares(state.qvel), 200.0),
            "action_rate": -0.02 * squares(state.action - state.previous_action),
        }

    def markers(self, state: State) -> dict[str, np.ndarray]:
        return {"goal": np.insert(state.command, 1, PLANE, axis=1) + np.array([0, 0, SHOULDER_HEIGHT])}

    def terminated(self, state: State) -> np.ndarray:
        return np.zeros(len(state.qpos), dtype=bool)

    def on_goal(self, state: State) -> np.ndarray:
        return state.once(_distance) < TOLERANCE

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_streak >= 25)


def _tip(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Where the tip is, and how far the goal is from there, m, ``(n, 2)`` each."""
    position = tip(state.qpos)
    return position, state.command - position


def _distance(state: State) -> np.ndarray:
    """From the tip to the goal, m, ``(n,)``."""
    return norms(state.once(_tip)[1])
