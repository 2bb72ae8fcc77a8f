"""Walker: walk forward at an easy pace, upright."""

from __future__ import annotations

import numpy as np

from simreal_envs.parameters import Draws
from simreal_envs.robots.walker import JOINTS, STANCE, STANCE_HEIGHT, WALKER
from simreal_envs.tasks.base import Episode, State, squares
from simreal_envs.tasks.planar import Planar, foot_motion, planar_schema

SPEED = 1.2  # m/s, an adult's easy walk
SEGMENTS = (0.4, 0.4)  # m: thigh, shin
SOLES = ((-0.05, -0.11), (0.15, -0.11))  # m from the ankle: heel, toe
LOWEST, STEEPEST = 0.55, 1.0  # m, rad


class Walker(Planar):
    name = "walker"
    says = "a planar biped walks forward at 1.2 m/s"
    goal = "no fall, and within 0.4 m/s of 1.2 m/s during at least 70 % of the episode"
    robot = WALKER
    substeps = 5
    episode_steps = 500
    schema = planar_schema(JOINTS)
    stance = np.array(STANCE)
    action_scale = np.array([0.6, 0.6, 0.5] * 2)
    stance_height = STANCE_HEIGHT
    lowest, steepest = LOWEST, STEEPEST
    random_return = -39.4
    reference_return = 961.9

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        qpos, qvel = super().initial_state(draws, n)
        u = draws.uniform("task/stride", 2)
        # In stride, either leg ahead, at up to the speed that is asked for.
        stride = 0.8 * u[:, 0] - 0.4
        qpos[:, 3] += stride
        qpos[:, 6] -= stride
        qvel[:, 0] = SPEED * u[:, 1]
        return qpos, qvel

    def reward(self, state: State) -> dict[str, np.ndarray]:
        tracking = np.exp((state.qvel[:, 0] - SPEED) ** 2 / -0.25)
        motion = self._soles(state)
        _, heights, speeds = motion
        slip = np.minimum(speeds**2, 1.0) * np.exp(np.maximum(heights, 0.0) / -0.01)
        return {
            "velocity": tracking,
            # Without it, they limp: one foot always ahead of the other.
            "passing": 2.0 * tracking * _passing(motion),
            "alive": np.full(len(tracking), 0.1),
            "pitch": -0.5 * state.qpos[:, 2] ** 2,
            "bounce": -0.3 * np.minimum(state.qvel[:, 1] ** 2, 1.0),
            "slip": -np.add.reduce(slip.reshape(4, -1), axis=0),
            "posture": -0.05 * squares(state.action),
            "action_rate": -0.1 * squares(state.action - state.previous_action),
            "fall": -20.0 * self.terminated(state),
        }

    def _soles(self, state: State) -> np.ndarray:
        """See `foot_motion`: of the right and the left foot, heel and toe, ``(3, 2, 2, n)``."""
        return foot_motion(state, slice(3, 9), SEGMENTS, SOLES)

    def on_goal(self, state: State) -> np.ndarray:
        return np.abs(state.qvel[:, 0] - SPEED) < 0.4

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_share >= 0.7)


def _passing(motion: np.ndarray) -> np.ndarray:
    """In [0, 1], ``(n,)``, from ``(3, 2, 2, n)``: how swiftly a lifted foot passes the other one, which is on the floor."""
    reach_and_speed, clear = motion[::2], np.maximum(motion[1], 0.0)
    right, left = np.swapaxes(reach_and_speed[:, :, 0] + reach_and_speed[:, :, 1], 0, 1)
    apart, faster = 0.5 * (left - right)  # of the middles of the feet
    lowest = np.minimum(clear[:, 0], clear[:, 1])
    low, high = np.minimum(lowest[0], lowest[1]), np.maximum(lowest[0], lowest[1])
    swift = np.exp(-((apart / 0.2) ** 2)) * np.minimum(np.abs(faster) / 2.5, 1.0)
    return swift * np.minimum(high / 0.04, 1.0) * np.exp(low / -0.02)
