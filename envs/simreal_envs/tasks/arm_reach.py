"""Arm reach: a Franka Panda brings its hand to a drawn point in front of it and holds it there."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from simreal_envs.kinematics import GravityTorque, Kinematics
from simreal_envs.parameters import Draws
from simreal_envs.robots import panda
from simreal_envs.robots.panda import JOINTS, PANDA
from simreal_envs.schema import Field, Schema
from simreal_envs.tasks.base import Episode, State, Task, norms, squares

HOME, KP = np.array(panda.HOME), np.array(panda.KP)
ACTION_SCALE = np.array([0.75, 0.75, 0.5, 1.2, 0.5, 0.75, 0.5])  # rad of joint target around HOME, per unit of action
GOAL_LOW, GOAL_HIGH = np.array([0.35, -0.30, 0.15]), np.array([0.65, 0.30, 0.50])  # m: the box of goals
TOLERANCE = 0.02  # m


class ArmReach(Task):
    name = "arm_reach"
    says = "Franka Panda brings its hand to a point and holds it there"
    goal = "the hand within 2 cm of the goal during the whole last second"
    robot = PANDA
    substeps = 10
    episode_steps = 150
    schema = Schema(
        observation=(
            Field("joint_position", "rad", JOINTS, -4.0, 4.0, noise=0.002),
            Field("joint_velocity", "rad/s", JOINTS, -20.0, 20.0, noise=0.05),
            Field("hand_position", "m", ("x", "y", "z"), -1.5, 1.5, noise=0.002),
            Field("goal_offset", "m", ("x", "y", "z"), -2.0, 2.0, noise=0.005),
            Field("previous_action", "1", JOINTS, -1.0, 1.0),
        ),
        action=(Field("joint_target", "1", JOINTS, -1.0, 1.0),),
        control_period=0.02,
    )
    random_return = -180.2
    reference_return = 124.0

    @cached_property
    def _kinematics(self) -> Kinematics:
        return Kinematics(self.robot.model("matched"), sites=("hand",))

    @cached_property
    def _gravity_torque(self) -> GravityTorque:
        return GravityTorque(self.robot.model("matched"), JOINTS)

    def initial_state(self, draws: Draws, n: int) -> tuple[np.ndarray, np.ndarray]:
        u = 2 * draws.uniform("task/initial_state", 14) - 1
        return HOME + 0.5 * ACTION_SCALE * u[:, :7], 0.5 * u[:, 7:]

    def command(self, draws: Draws, n: int) -> np.ndarray:
        """The goal, m, from the middle of the arm's foot."""
        return GOAL_LOW + (GOAL_HIGH - GOAL_LOW) * draws.uniform("task/goal", 3)

    def control(self, action: np.ndarray) -> np.ndarray:
        # As on the real arm, the controller knows the weight of the nominal machine, and nothing of a payload.
        target = HOME + ACTION_SCALE * action
        return target + self._gravity_torque(target) / KP

    def observe(self, state: State) -> np.ndarray:
        hand = state.once(self._hand)
        return np.concatenate([state.qpos - HOME, state.qvel, hand, state.command - hand, state.action], axis=1)

    def reward(self, state: State) -> dict[str, np.ndarray]:
        distance = state.once(self._distance)
        return {
            "distance": -2.0 * distance,
            "precision": np.exp(-((distance / 0.05) ** 2)),
            "speed": -0.01 * np.minimum(squares(state.qvel), 50.0),
            "action_rate": -0.05 * squares(state.action - state.previous_action),
        }

    def markers(self, state: State) -> dict[str, np.ndarray]:
        return {"goal": state.command}

    def terminated(self, state: State) -> np.ndarray:
        return np.zeros(len(state.qpos), dtype=bool)

    def on_goal(self, state: State) -> np.ndarray:
        return state.once(self._distance) < TOLERANCE

    def success(self, episode: Episode) -> np.ndarray:
        return ~episode.terminated & (episode.goal_streak >= 50)

    def _hand(self, state: State) -> np.ndarray:
        """The point between the finger tips, m, ``(n, 3)``."""
        return self._kinematics.positions(state.qpos)[:, 0]

    def _distance(self, state: State) -> np.ndarray:
        return norms(state.command - state.once(self._hand))
