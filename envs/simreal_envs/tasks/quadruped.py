"""Quadruped: walk forward at a commanded velocity on flat ground, without falling."""

from __future__ import annotations

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.robots.a1 import A1, JOINTS, STANCE, STANCE_HEIGHT
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task

ACTION_SCALE = np.array([0.2, 0.4, 0.4] * 4)  # rad of joint target around the stance, per unit of action
COMMAND = (0.4, 0.8)  # m/s


class Quadruped(Task):
    name = "quadruped"
    says = "Unitree A1 walks forward at a commanded velocity of 0.4 to 0.8 m/s"
    goal = "no fall, and within 0.2 m/s of the commanded velocity during at least 70 % of the episode"
    robot = A1
    substeps = 5
    episode_steps = 500
    schema = Schema(
        # Noise: the levels that legged_gym (Rudin et al. 2022) adds for the real robot.
        observation=(
            Field("linear_velocity", "m/s", ("x", "y", "z"), -10.0, 10.0, noise=0.1),
            Field("angular_velocity", "rad/s", ("x", "y", "z"), -40.0, 40.0, noise=0.2),
            Field("gravity_direction", "1", ("x", "y", "z"), -1.5, 1.5, noise=0.05),
            Field("velocity_command", "m/s", ("x",), -2.0, 2.0),
            Field("joint_position", "rad", JOINTS, -6.0, 6.0, noise=0.01),
            Field("joint_velocity", "rad/s", JOINTS, -100.0, 100.0, noise=1.5),
            Field("previous_action", "1", JOINTS, -1.0, 1.0),
        ),
        action=(Field("joint_target", "1", JOINTS, -1.0, 1.0),),
        control_period=0.02,
    )
    random_return = -149.2
    reference_return = 713.6

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        u = 2 * draws.uniform("task/initial_state", 18) - 1
        qpos, qvel = np.zeros((n, 19)), np.zeros((n, 18))
        qpos[:, 2], qpos[:, 3] = STANCE_HEIGHT + 0.02, 1.0
        qpos[:, 7:] = STANCE + 0.15 * u[:, :12]
        # From rest alone, a gait can come to depend on the exploration noise that starts it.
        qvel[:, :3], qvel[:, 3:6] = 0.4 * u[:, 12:15] * [1, 1, 0], 0.4 * u[:, 15:18]
        return qpos, qvel

    def command(self, draws: Draws, n: int) -> np.ndarray:
        low, high = COMMAND
        return low + (high - low) * draws.uniform("task/velocity_command")

    def control(self, action: np.ndarray) -> np.ndarray:
        return STANCE + ACTION_SCALE * action

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate(
            [
                state.base_velocity,
                state.qvel[:, 3:6],
                state.gravity_direction,
                state.command,
                state.qpos[:, 7:] - STANCE,
                state.qvel[:, 6:],
                state.action,
            ],
            axis=1,
        )

    def reward(self, state: State) -> dict[str, np.ndarray]:
        velocity = state.base_velocity
        gravity = state.gravity_direction
        miss = (velocity[:, 0] - state.command[:, 0]) ** 2 + velocity[:, 1] ** 2
        tracking = np.exp(-miss / 0.1)
        return {
            "velocity": 1.2 * tracking,
            # Only while walking: standing still must not pay.
            "heading": 0.3 * tracking * np.exp(-(state.qvel[:, 5] ** 2) / 0.25),
            "alive": np.full(len(miss), 0.1),
            "bounce": -1.0 * np.minimum(velocity[:, 2] ** 2, 1.0),
            "roll_pitch_rate": -0.02 * np.minimum((state.qvel[:, 3:5] ** 2).sum(axis=1), 10.0),
            "tilt": -1.0 * (gravity[:, :2] ** 2).sum(axis=1),
            "posture": -0.03 * ((state.qpos[:, 7:] - STANCE) ** 2).sum(axis=1),
            "action_rate": -0.03 * ((state.action - state.previous_action) ** 2).sum(axis=1),
            "fall": -10.0 * self.terminated(state),
        }

    def terminated(self, state: State) -> np.ndarray:
        return (state.qpos[:, 2] < 0.16) | (state.gravity_direction[:, 2] > -0.5)

    def on_goal(self, state: State) -> np.ndarray:
        return np.abs(state.base_velocity[:, 0] - state.command[:, 0]) < 0.2

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_share >= 0.7)
