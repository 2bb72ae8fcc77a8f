"""Ant: walk straight ahead on four legs with a hip and an ankle each, without falling."""

from __future__ import annotations

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.robots.ant import ANT, JOINTS, SPEED_LIMIT, STANCE_HEIGHT
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task, squares

ACTION_SCALE = np.array([0.5, 0.5] * 4)  # rad of joint target around the stance, per unit of action
SPEED = 0.3  # m/s


class Ant(Task):
    name = "ant"
    says = "a four-legged ant with eight joints walks straight ahead at 0.3 m/s"
    goal = "no fall, and forward at 0.2 to 0.4 m/s, within 0.3 m of the line, during at least 70 % of the episode"
    robot = ANT
    substeps = 8
    episode_steps = 500
    schema = Schema(
        # Noise as the quadruped's, the joint velocity's by the speed of these servos.
        observation=(
            Field("linear_velocity", "m/s", ("x", "y", "z"), -10.0, 10.0, noise=0.1),
            Field("angular_velocity", "rad/s", ("x", "y", "z"), -40.0, 40.0, noise=0.2),
            Field("gravity_direction", "1", ("x", "y", "z"), -1.5, 1.5, noise=0.05),
            Field("heading", "1", ("cos", "sin"), -1.5, 1.5, noise=0.05),
            Field("line_offset", "m", ("y",), -2.0, 2.0, noise=0.01),
            Field("joint_position", "rad", JOINTS, -6.0, 6.0, noise=0.01),
            Field("joint_velocity", "rad/s", JOINTS, -100.0, 100.0, noise=0.5),
            Field("previous_action", "1", JOINTS, -1.0, 1.0),
        ),
        action=(Field("joint_target", "1", JOINTS, -1.0, 1.0),),
        control_period=0.02,
    )
    random_return = -469.3
    reference_return = 905.4

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        u = 2 * draws.uniform("task/initial_state", 13) - 1
        qpos, qvel = np.zeros((n, 15)), np.zeros((n, 14))
        yaw = 0.3 * u[:, 8]
        qpos[:, 2], qpos[:, 3], qpos[:, 6] = STANCE_HEIGHT + 0.01, np.cos(yaw / 2), np.sin(yaw / 2)
        qpos[:, 7:] = 0.2 * u[:, :8]
        # From rest alone, a gait can come to depend on the exploration noise that starts it.
        qvel[:, :2], qvel[:, 5] = 0.2 * u[:, 9:11], 0.5 * u[:, 11]
        return qpos, qvel

    def control(self, action: np.ndarray) -> np.ndarray:
        return ACTION_SCALE * action

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate(
            [
                state.base_velocity,
                state.qvel[:, 3:6],
                state.gravity_direction,
                state.once(_heading),
                state.qpos[:, 1:2],
                state.qpos[:, 7:],
                state.qvel[:, 6:],
                state.action,
            ],
            axis=1,
        )

    def reward(self, state: State) -> dict[str, np.ndarray]:
        gravity, speeds = state.gravity_direction, np.abs(state.qvel[:, 6:])
        return {
            "forward": 2.0 * (1 - np.minimum(np.abs(state.qvel[:, 0] / SPEED - 1), 2.0)),
            "line": -2.0 * np.minimum(state.qpos[:, 1] ** 2, 1.0),
            "heading": -0.5 * (1 - state.once(_heading)[:, 0]),
            "bounce": -1.0 * np.minimum(state.qvel[:, 2] ** 2, 1.0),
            "tilt": -1.0 * squares(gravity[:, :2]),
            "servo_speed": -0.005 * np.add.reduce(np.maximum(speeds - SPEED_LIMIT, 0), axis=1),
            "action_rate": -0.05 * squares(state.action - state.previous_action),
            "fall": -10.0 * self.terminated(state),
        }

    def terminated(self, state: State) -> np.ndarray:
        return (state.qpos[:, 2] < 0.055) | (state.gravity_direction[:, 2] > -0.5)

    def on_goal(self, state: State) -> np.ndarray:
        return (np.abs(state.qvel[:, 0] - SPEED) <= 0.1) & (np.abs(state.qpos[:, 1]) < 0.3)

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_share >= 0.7)


def _heading(state: State) -> np.ndarray:
    """Cosine and sine of the angle of the torso's forward axis from +x, to the left, ``(n, 2)``."""
    w, x, y, z = state.qpos[:, 3:7].T
    yaw, out = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)), np.empty((len(state.qpos), 2))
    out[:, 0], out[:, 1] = np.cos(yaw), np.sin(yaw)
    return out
