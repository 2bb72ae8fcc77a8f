"""Half-cheetah: run forward at 4 m/s, without tipping over."""

from __future__ import annotations

import numpy as np

from simreal_envs.robots.halfcheetah import HALFCHEETAH, JOINTS, STANCE_HEIGHT
from simreal_envs.tasks.base import Episode, State, squares
from simreal_envs.tasks.planar import Planar, planar_schema

SPEED = 4.0  # m/s, the fastest that a cheetah-like robot of this size has run (Margolis et al. 2022: 3.9 m/s)
GOAL_SPEED = 3.0  # m/s
LOWEST, STEEPEST = 0.25, 1.3  # m, rad


class HalfCheetah(Planar):
    name = "halfcheetah"
    says = "a planar half-cheetah runs forward at 4 m/s"
    goal = "no fall, and faster than 3 m/s during at least 70 % of the episode"
    robot = HALFCHEETAH
    substeps = 5
    episode_steps = 500
    schema = planar_schema(JOINTS)
    stance = np.zeros(6)
    action_scale = np.array([0.6, 0.6, 0.5, 0.6, 0.6, 0.5])
    stance_height = STANCE_HEIGHT
    lowest, steepest = LOWEST, STEEPEST
    random_return = -493.0
    reference_return = 1836.2

    def reward(self, state: State) -> dict[str, np.ndarray]:
        return {
            # Speed itself up to the one that is asked for; what is beyond it counts against it. Unbounded, agents reach 8 m/s.
            "forward": SPEED - np.abs(state.qvel[:, 0] - SPEED),
            "posture": -0.1 * squares(state.action),
            "action_rate": -0.1 * squares(state.action - state.previous_action),
            "fall": -20.0 * self.terminated(state),
        }

    def on_goal(self, state: State) -> np.ndarray:
        return state.qvel[:, 0] > GOAL_SPEED

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_share >= 0.7)
