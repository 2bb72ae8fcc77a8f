"""Hopper: hop forward on one leg, upright."""

from __future__ import annotations

import numpy as np

from simreal_envs.robots.hopper import HOPPER, JOINTS, STANCE, STANCE_HEIGHT
from simreal_envs.tasks.base import Episode, State, squares
from simreal_envs.tasks.planar import Planar, foot_heights, planar_schema

SPEED = 1.0  # m/s
FLIGHT = 0.03  # m: height of the foot that counts as flight
SEGMENTS = (0.45, 0.45)  # m: thigh, shin
SOLES = ((-0.09, -0.13), (0.17, -0.13))  # m from the ankle: heel, toe
LOWEST, STEEPEST = 0.5, 1.0  # m, rad


class Hopper(Planar):
    name = "hopper"
    says = "a planar one-legged hopper hops forward at 1 m/s"
    goal = "no fall, and in flight, the foot 3 cm up, at 0.6 to 1.4 m/s during at least 30 % of the episode"
    robot = HOPPER
    substeps = 5
    episode_steps = 500
    schema = planar_schema(JOINTS)
    stance = np.array(STANCE)
    action_scale = np.array([0.7, 0.8, 0.5])
    stance_height = STANCE_HEIGHT
    lowest, steepest = LOWEST, STEEPEST
    random_return = -18.4
    reference_return = 764.5

    def reward(self, state: State) -> dict[str, np.ndarray]:
        tracking = np.exp(-((state.qvel[:, 0] - SPEED) ** 2) / 0.25)
        return {
            "velocity": tracking,
            # High and slow hops; without it, quick ones of 2 cm do.
            "bounce": 0.8 * tracking * np.minimum(np.abs(state.qvel[:, 1]), 1.0),
            "alive": np.full(len(tracking), 0.1),
            "pitch": -0.3 * state.qpos[:, 2] ** 2,
            "posture": -0.02 * squares(state.action),
            "action_rate": -0.15 * squares(state.action - state.previous_action),
            "fall": -20.0 * self.terminated(state),
        }

    def _clearance(self, state: State) -> np.ndarray:
        """Height of the lower one of heel and toe above the floor, m, ``(n,)``."""
        ((heel, toe),) = foot_heights(state, slice(3, 6), SEGMENTS, SOLES)
        return np.minimum(heel, toe)

    def on_goal(self, state: State) -> np.ndarray:
        return (np.abs(state.qvel[:, 0] - SPEED) < 0.4) & (self._clearance(state) > FLIGHT)

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_share >= 0.3)
